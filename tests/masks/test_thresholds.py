"""Thresholds: the library's Otsu, and words that are none."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from shortcutscope.errors import InputError
from shortcutscope.masks.thresholds import check_threshold, threshold_of


def test_otsu_quantile_and_share():
    values = np.r_[np.linspace(0, 1, 95), np.linspace(4, 5, 5)]
    assert threshold_of(values) == threshold_otsu(values)
    assert threshold_of(values, "quantile") == np.quantile(values, 0.95)
    assert threshold_of(values, 0.4) == pytest.approx(2.0)


def test_a_flat_map_has_nothing_above():
    assert threshold_of(np.ones((4, 4))) == np.inf
    assert threshold_of(np.array([])) == np.inf


@pytest.mark.parametrize("wrong", ["mean", 0.0, 1.0, 2.5])
def test_other_thresholds_are_refused(wrong):
    with pytest.raises(InputError, match="allowed are 'otsu'"):
        check_threshold(wrong)
