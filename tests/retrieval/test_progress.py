import numpy as np
import pytest

from shortcutscope.retrieval.progress import advise, drift, precision_at


def test_the_interval_of_the_precision_holds_in_most_draws():
    """Of 100 ranked samples with falling chances of carrying it, 24 at random are asked about."""
    rng = np.random.default_rng(0)
    covered, trials = 0, 200
    for _ in range(trials):
        truth = (rng.random(100) < np.linspace(1, 0.3, 100)).astype(float)
        marks = np.full(100, np.nan)
        asked = rng.permutation(100)[:24]
        marks[asked] = truth[asked]
        found = precision_at(100, np.arange(100), marks, ~np.isnan(marks))
        covered += found.low <= truth.mean() <= found.high
    assert covered / trials >= 0.92


def test_marks_that_one_began_with_tell_nothing_of_others():
    marks = np.where(np.arange(40) < 10, 1.0, np.nan)
    found = precision_at(40, np.arange(40), marks, np.zeros(40, bool))
    assert (found.low, found.high) == (0.25, 1.0)


def test_all_marked_is_exact():
    marks = np.tile([1.0, 0.0], 10)
    found = precision_at(20, np.arange(20), marks, np.ones(20, bool))
    assert found.low == found.value == found.high == 0.5


def test_drift_of_a_reversed_ranking():
    scores = np.arange(100.0)
    same, reversed_ = drift(scores, scores * 2, 1, 20), drift(scores, -scores, 2, 20)
    assert (same.overlap, same.correlation) == (1.0, pytest.approx(1))
    assert (reversed_.overlap, reversed_.correlation) == (0.0, pytest.approx(-1))


@pytest.mark.parametrize(
    ("recovery", "latest", "moved", "stop", "word"),
    [
        (0.5, [0, 0], False, False, "Look at the marks"),
        (0.9, [], False, False, "Go on"),
        (0.9, [1, 1, 1, 0], False, False, "more are left"),
        (0.9, [0, 0, 0, 0], True, False, "still changes"),
        (0.9, [0, 0, 0, 0], False, True, "Stop"),
        (0.7, [0, 0, 0, 0], False, True, "may be left"),
    ],
)
def test_advice(recovery, latest, moved, stop, word):
    scores = np.arange(100.0)
    changed = drift(scores, -scores if moved else scores, 1, 20)
    advice = advise(recovery, np.array(latest, float), changed)
    assert advice.stop is stop
    assert word in advice.text
