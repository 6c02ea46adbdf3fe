import numpy as np
import pytest

from shortcutscope.retrieval import marked
from shortcutscope.retrieval.marked import rank_by_marked
from shortcutscope.stats.metrics import auroc


def made(n_others):
    generator = np.random.default_rng(0)
    truth = np.arange(200) < 60
    features = generator.normal(size=(200, 30)) + 1.5 * truth[:, None] * (np.arange(30) < 5)
    features[:, -1] = 7.0  # of a dead channel
    marks = np.full(200, np.nan)
    marks[:10], marks[60 : 60 + n_others] = 1, 0
    return truth, features, marks


def test_ten_marks_rank_the_others_also_where_no_others_are_marked():
    for n_others in (10, 0):
        truth, features, marks = made(n_others)
        plain = rank_by_marked([(features, 1.0)], marks, np.arange(200))
        free = np.isnan(marks)
        assert auroc(truth[free].astype(float), plain.scores[free]) > 0.85
        assert np.allclose(plain.score(features)[free], plain.scores[free]) == (n_others > 0)


def test_marked_samples_are_scored_without_their_marks():
    _, features, marks = made(10)
    features[:20] = np.random.default_rng(1).normal(size=(20, 30))  # what is marked shows nothing
    features[60:70] = np.random.default_rng(2).normal(size=(10, 30))
    plain = rank_by_marked([(features, 1.0)], marks, np.arange(200))
    marked = ~np.isnan(marks)
    assert abs(auroc(marks[marked], plain.scores[marked]) - 0.5) < 0.3
    assert auroc(marks[marked], plain.score(features)[marked]) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_unmarked_samples_stand_for_the_others_that_nobody_asks_about(monkeypatch, seed):
    """Others that were asked about look like carriers: what these have more of than all others is missed."""
    generator = np.random.default_rng(seed)
    truth = np.arange(600) < 90
    features = generator.normal(size=(600, 40)) + 1.2 * truth[:, None] * (np.arange(40) < 4)
    marks = np.full(600, np.nan)
    asked = 90 + np.argsort(-features[90:, :2].sum(1))[:40]
    marks[:20], marks[asked] = 1, 0
    free = np.isnan(marks)

    def ranked():
        return auroc(
            truth[free].astype(float), rank_by_marked([(features, 1.0)], marks, np.arange(600)).scores[free]
        )

    with_unmarked = ranked()
    monkeypatch.setattr(marked, "UNLIKE", 0.0)
    assert with_unmarked > ranked() + 0.02
