"""Cell maps of every geometry as pictures."""

import numpy as np
import pytest

from shortcutscope.report.finding import grid


def test_a_map_of_a_signal_is_one_row():
    assert grid([0.5, None, 1.0]) == [[0.5, None, 1.0]]


def test_a_map_of_an_image_stays():
    assert grid([[0.5, 0.6], [0.7, float("nan")]]) == [[0.5, 0.6], [0.7, None]]


def test_slices_of_a_volume_lie_side_by_side_with_a_gap():
    slices = np.arange(24.0).reshape(6, 2, 2)
    drawn = np.array(grid(slices.tolist()), dtype=float)
    assert drawn.shape == (5, 8)  # two rows of three slices
    assert np.array_equal(drawn[:2, 3:5], slices[1])
    assert np.array_equal(drawn[3:, 6:], slices[5])
    assert np.isnan(drawn[2]).all()
    assert np.isnan(drawn[:, [2, 5]]).all()
    assert np.isfinite(drawn).sum() == slices.size


@pytest.mark.parametrize(
    "value", [None, [], [[]], [[1.0], [1.0, 2.0]], [[[1.0]], [[1.0, 2.0]]], [[[["a"]]]], 3.0]
)
def test_what_is_no_map_is_not_drawn(value):
    assert grid(value) is None
