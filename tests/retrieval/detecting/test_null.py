import numpy as np
import pytest

from shortcutscope.retrieval.detecting.null import false_share, gumbel_law


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_law_is_found_among_carriers(share):
    generator = np.random.default_rng(0)
    maxima = generator.gumbel(5.0, 2.0, 2000)
    maxima[: int(share * len(maxima))] += 40
    location, scale = gumbel_law(maxima)
    assert location == pytest.approx(5.0, abs=0.25)
    assert scale == pytest.approx(2.0, abs=0.25)


def test_false_shares_are_those_of_the_largest_of_several():
    draws = np.random.default_rng(1).gumbel(size=(20000, 3)).max(1)
    for score in (1.0, 3.0):
        assert false_share(score, 3) == pytest.approx((draws > score).mean(), abs=0.01)
