import numpy as np
import pytest

from shortcutscope.retrieval.fusion import fuse


@pytest.fixture
def known():
    generator = np.random.default_rng(0)
    truth = np.arange(400) % 4 == 0
    noise = generator.normal(size=(3, 400))
    marks = np.full(400, np.nan)
    marks[np.flatnonzero(truth)[:20]], marks[np.flatnonzero(~truth)[:20]] = 1, 0
    return truth, noise, marks


def test_what_recovers_the_marks_carries_the_ranking(known):
    truth, noise, marks = known
    fusion = fuse({"layers": noise[0], "places": noise[1] + 6 * truth}, marks, np.arange(400) % 2)
    assert fusion.carried_by == "places"
    assert fusion.weights["layers"] == 0
    assert "ranked by places" in str(fusion)


def test_views_that_are_nearly_alike_are_joined_and_better_together(known):
    truth, noise, marks = known
    views = {"layers": noise[0] + 1.2 * truth, "borders": noise[1] + 1.2 * truth}
    fusion = fuse(views, marks, np.zeros(400))
    assert min(fusion.weights.values()) > 0
    assert sum(fusion.weights.values()) == pytest.approx(1)
    rank = [np.corrcoef(truth, scores)[0, 1] for scores in (fusion.scores, *views.values())]
    assert rank[0] > max(rank[1:])


def test_one_view_stays_as_it_is(known):
    _, noise, marks = known
    assert (fuse({"layers": noise[0]}, marks, np.zeros(400)).scores == noise[0]).all()


@pytest.fixture
def small(known):
    """Layers that tell a little, and a detector that finds half of the carriers."""
    truth, noise, _ = known
    null, high = np.random.default_rng(5).gumbel(size=(2, 400))
    shows = truth & (np.arange(400) % 8 == 0)
    return {"layers": noise[0] + truth, "places": np.where(shows, 9 + high, null)}


def test_what_a_detector_found_comes_before_what_layers_tell(known, small):
    truth, _, marks = known
    fusion = fuse(small, marks, np.zeros(400), {"places": 1})
    rank = [np.mean(scores[truth][:, None] > scores[~truth]) for scores in (fusion.scores, *small.values())]
    assert rank[0] > max(rank[1:])
    assert fusion.presence.clear
    assert set(np.argsort(-fusion.scores)[:40]) <= set(np.flatnonzero(small["places"] > 5))
    assert "something was found in" in str(fusion)


def test_a_detector_of_something_else_is_left_out(known, small):
    truth, noise, marks = known
    elsewhere = np.roll(small["places"], 1) + np.roll(small["places"], 4)
    fusion = fuse({"layers": noise[0] + 3 * truth, "places": elsewhere}, marks, np.zeros(400), {"places": 1})
    assert fusion.weights == {"layers": 1.0, "places": 0.0}
    assert (fusion.scores == noise[0] + 3 * truth).all()


def test_a_view_that_another_contains_takes_part_only_where_it_is_plainly_better(known):
    truth, noise, marks = known
    picture = noise[0] + 1.2 * truth
    contained = {"layers": "picture"}
    for layers, part in ((noise[1] + 1.2 * truth, False), (noise[1] + 4 * truth, True)):
        fusion = fuse({"layers": layers, "picture": picture}, marks, np.zeros(400), contained=contained)
        assert (fusion.weights["layers"] > 0) == part
    alone = {"layers": noise[0] + truth, "borders": noise[1] + truth}
    weights = [fuse(alone, marks, np.zeros(400), contained=one).weights for one in (None, contained)]
    assert weights[0] == weights[1]
