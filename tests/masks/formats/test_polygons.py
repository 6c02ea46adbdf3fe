import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from shortcutscope.masks.formats.polygons import fill, outlines


@settings(max_examples=80, deadline=None)
@given(mask=array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(lambda shape: arrays(np.bool_, shape)))
def test_outlines_fill_the_same_pixels(mask):
    found = outlines(mask)
    assert np.array_equal(fill(found, mask.shape), mask)
    area = sum(shoelace(points) for points in found)
    assert area == mask.sum()


def shoelace(points):
    x, y = points.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_a_square_has_four_corners_and_a_ring_is_cut():
    square = np.zeros((6, 8), dtype=bool)
    square[1:4, 2:7] = True
    (points,) = outlines(square)
    assert sorted(map(tuple, points.tolist())) == [(2, 1), (2, 4), (7, 1), (7, 4)]
    square[2, 3:5] = False
    assert len(outlines(square)) == 2
    assert outlines(np.zeros((3, 3), dtype=bool)) == []
