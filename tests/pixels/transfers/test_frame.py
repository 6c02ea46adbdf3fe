from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate

from shortcutscope.pixels.transfers import moved
from shortcutscope.pixels.transfers.edges import Edge, frame_of
from shortcutscope.pixels.transfers.frame import with_frame, without_frame
from shortcutscope.pixels.transfers.side import Side, side_of

NONE = (Edge(0, 0, 0),) * 4


def picture(seed=0, shape=(1, 64, 80)):
    soft = gaussian_filter(np.random.default_rng(seed).random(shape), (0, 3, 3))
    return (0.3 + 2 * (soft - soft.mean())).clip(0.08, 0.9).astype(np.float32)


def framed(image, degrees=0.0, grey=0.0, margin=8):
    """The frame of a collimator that was turned."""
    inside = np.pad(np.ones((image.shape[1] - 2 * margin, image.shape[2] - 2 * margin)), margin)
    inside = rotate(inside, degrees, reshape=False, order=1)
    return np.where(inside > 0.5, image, grey).astype(np.float32), inside > 0.5


@pytest.mark.parametrize("degrees", [0, 3, -4])
@pytest.mark.parametrize("grey", [0.0, 0.97])
def test_a_tilted_frame_is_found_along_all_its_lines(degrees, grey):
    image, inside = framed(picture(), degrees, grey)
    edges = frame_of(image)
    assert [edge.grey for edge in edges] == pytest.approx([grey] * 4)
    drawn = with_frame(np.full_like(image, 0.5), edges)[0] == 0.5
    assert (drawn == inside).mean() > 0.97


@pytest.mark.parametrize("degrees", [0, 3])
def test_a_frame_is_taken_away_to_the_last_pixel_and_the_picture_stays(degrees):
    image, inside = framed(picture(), degrees)
    bare = without_frame(image, frame_of(image))
    assert bare.min() > 0.05
    assert frame_of(bare) == NONE
    deep = inside & np.roll(inside, 2, 0) & np.roll(inside, -2, 0) & np.roll(inside, 2, 1)
    deep &= np.roll(inside, -2, 1)
    assert np.array_equal(bare[0, deep], image[0, deep])


def test_a_stamp_in_the_frame_is_no_end_of_it_and_goes_with_it():
    image, _ = framed(picture())
    image[:, 2:6, 10:16] = 0.8
    assert frame_of(image) == frame_of(framed(picture())[0])
    assert without_frame(image, frame_of(image))[0, 2:6, 10:16].max() < 0.7


def test_pictures_without_an_even_edge_have_no_frame():
    assert frame_of(picture()) == NONE
    dark_corner = picture()
    dark_corner[:, :20, :20] = 0
    assert sum(edge.area for edge in frame_of(dark_corner)) < 0.01
    assert np.array_equal(without_frame(picture(), NONE), picture())


@pytest.mark.parametrize("value", [0.0, 0.4])
def test_a_picture_that_is_even_all_over_is_left_alone(value):
    even = np.full((1, 32, 32), value, np.float32)
    assert frame_of(even) == NONE
    moved_image = moved("frame", even, side_of(even), side_of(even), np.random.default_rng(0))
    assert np.array_equal(moved_image, even)


def test_the_null_gives_the_frame_of_another_of_the_same_side():
    image, other = framed(picture(0), 2)[0], framed(picture(1), -3, margin=12)[0]
    new = moved("frame", image, side_of(image), side_of(other), np.random.default_rng(0))
    for mine, theirs in zip(frame_of(new), frame_of(other), strict=True):
        assert (mine.first, mine.last) == pytest.approx((theirs.first, theirs.last), abs=0.03)


def test_frames_of_pictures_of_other_sizes_are_laid_over_in_shares():
    small, large = framed(picture(0, (3, 40, 40)))[0], picture(1, (3, 120, 90))
    other = Side(lambda: [small])
    new = moved("frame", large, side_of(large), other, np.random.default_rng(0))
    assert [round(edge.first, 2) for edge in frame_of(new)] == [0.2] * 4
