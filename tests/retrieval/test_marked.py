import numpy as np

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
