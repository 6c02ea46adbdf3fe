import numpy as np
import pytest

from shortcutscope.retrieval.detecting.null import share_with
from shortcutscope.retrieval.presence import presence


@pytest.fixture
def drawn():
    """Scores of 400 images in units of their null; the first hundred are carriers."""
    generator = np.random.default_rng(0)
    return np.arange(400) < 100, generator.gumbel(size=400), generator.uniform(5, 14, size=400)


def marked(rows_of_carriers, rows_of_others):
    marks = np.full(400, np.nan)
    marks[rows_of_carriers], marks[rows_of_others] = 1, 0
    return marks


def test_finds_in_carriers_alone_are_odds_for_a_carrier(drawn):
    carries, null, high = drawn
    scores = np.where(carries & (np.arange(400) % 4 > 0), high, null)
    found = presence(scores, marked(range(20), range(100, 120)), 1)
    assert found.clear
    assert found.carriers == pytest.approx(0.75, abs=0.15)
    assert found.others < 0.25
    assert found.odds[carries & (scores > 5)].min() > 2
    assert np.median(found.odds[~carries]) < 0
    assert "of the marked carriers" in str(found)
    assert (np.diff(found.odds[np.argsort(scores)]) >= -1e-9).all()


def test_finds_in_as_many_others_say_nothing(drawn):
    _, null, high = drawn
    scores = np.where(np.arange(400) % 2 > 0, high, null)
    found = presence(scores, marked(range(10), range(100, 110)), 1)
    assert not found.clear
    assert found.weight < 0.3


def test_unmarked_samples_stand_for_others_that_nobody_marked(drawn):
    carries, null, high = drawn
    found = presence(np.where(carries, high, null), marked(range(10), []), 1)
    assert found.clear
    assert 0.2 < found.others < 0.5  # weak finds count in part


def test_the_highest_of_several_kinds_is_no_find(drawn):
    _, null, _ = drawn
    highest = np.random.default_rng(1).gumbel(size=(400, 6)).max(1)
    assert share_with(null) < 0.15
    assert presence(highest, marked(range(10), range(100, 110)), 6).carriers < 0.3
