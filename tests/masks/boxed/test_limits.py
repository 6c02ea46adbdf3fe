"""The limit between unmarked images and marked carriers."""

import numpy as np

from shortcutscope.masks.boxed.limits import ALARMS, CHANCE, limit_of
from shortcutscope.retrieval.detecting.null import false_share, score_at

CARRIERS = np.array([8.0, 9.0, 9.5, 10.0, 10.5, 11.0, 12.0])
LOWEST, RARE = score_at(CHANCE, 2), score_at(ALARMS, 2)


def test_chance_is_the_limit_where_nothing_lies_between_it_and_the_carriers():
    assert np.isclose(float(false_share(LOWEST, 2)), CHANCE)
    unmarked = np.r_[np.random.default_rng(0).gumbel(size=80).clip(max=LOWEST), np.full(20, 10.0)]
    assert limit_of(unmarked, CARRIERS, 2) == LOWEST
    assert limit_of(np.r_[unmarked, LOWEST + 0.5], CARRIERS, 2) == LOWEST  # one in fifty may be drawn


def test_where_the_law_is_right_and_carriers_lie_low_the_limit_is_at_one_in_fifty():
    unmarked = np.r_[np.zeros(80), np.linspace(LOWEST + 0.01, RARE - 0.01, 6), np.full(20, 10.0)]
    low = np.r_[CARRIERS, -2.0, 0.0]
    limit = limit_of(unmarked, low, 2)
    assert LOWEST < limit < RARE
    assert (unmarked[:86] > limit).sum() == 3
    assert limit_of(unmarked, CARRIERS[:4], 2) == limit


def test_what_is_like_it_in_many_unmarked_images_moves_the_limit_up_to_the_carriers():
    letters = np.linspace(RARE + 0.1, RARE + 1.5, 15)
    unmarked = np.r_[np.zeros(65), letters, np.full(20, 10.0)]
    limit = limit_of(unmarked, CARRIERS, 2)
    assert (letters > limit).sum() == 3  # one in fifty, and one in twenty of the carriers
    assert limit < CARRIERS.min()
    # Carriers that are as low as they are leave nothing to tell them apart by, and few say nothing.
    assert limit_of(unmarked, np.r_[CARRIERS, -2.0, 0.0], 2) == LOWEST
    assert limit_of(unmarked, CARRIERS[:4], 2) == LOWEST
