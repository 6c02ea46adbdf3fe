"""Edges that fade out over a pixel are drawn to where they end; hard ones are left alone."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from shortcutscope.masks.fine_edges import are_fine, differences, filled_in, weighed_cut, with_edges


def ground(seed=0, side=48):
    """A slope with a little noise."""
    y, x = np.mgrid[:side, :side] / side
    noise = np.random.default_rng(seed).normal(0, 0.005, (side, side))
    return (0.3 * y + 0.2 * x + noise).astype(np.float32)


def line(seed=0, side=48):
    """A slanting bright line of 1.5 pixels, with the share of each pixel that it covers."""
    y, x = np.mgrid[:side, :side]
    distance = np.abs((y - 10) - 0.55 * (x - 5) - seed % 3) / np.hypot(1, 0.55)
    cover = (0.75 - distance + 0.5).clip(0, 1) * ((x > 6) & (x < 40))
    image = ground(seed)
    return (image + cover * (0.9 - image)).astype(np.float32), cover


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def test_what_is_hidden_is_filled_in_from_around():
    image, hidden = ground(), np.zeros((48, 48), bool)
    hidden[10:14, 10:30] = True
    spoilt = np.where(hidden, 1.0, image).astype(np.float32)
    assert np.abs(filled_in(spoilt, hidden) - image).max() < 0.04
    assert (filled_in(spoilt, hidden)[~hidden] == spoilt[~hidden]).all()


def test_a_large_hole_is_filled_too_and_a_hidden_image_ends():
    image, hidden = ground(), np.zeros((48, 48), bool)
    hidden[5:40, 5:40] = True
    assert np.abs(filled_in(image, hidden) - image).max() < 0.25
    assert filled_in(image, np.ones((48, 48), bool)).shape == image.shape


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_a_line_is_drawn_to_its_edges(sign):
    image, cover = line()
    image = 1 - image if sign < 0 else image
    core, truth = cover > 0.8, cover > 0.1
    drawn = with_edges(image, core, sign)
    assert overlap(drawn, truth) > 0.9
    assert overlap(core, truth) < 0.75


def test_what_does_not_differ_is_taken_out_and_nothing_stays_nothing():
    image, cover = line()
    core = cover > 0.5
    core[40:44, 2:6] = True
    assert not with_edges(image, core, 1)[41:43, 3:5].any()
    assert not with_edges(image, np.zeros_like(core), 1).any()
    assert differences(image, core, 0).min() >= 0


def test_edges_of_lines_are_fine_and_those_of_boxes_are_not():
    lines = [line(seed) for seed in range(6)]
    assert are_fine([image for image, _ in lines], [cover > 0.8 for _, cover in lines], 1, rim=False)
    boxes = []
    for seed in range(6):
        image, mask = ground(seed), np.zeros((48, 48), bool)
        mask[12:20, 12 + seed : 24 + seed] = True
        boxes.append((np.where(mask, 0.9, image).astype(np.float32), mask))
    assert not are_fine([image for image, _ in boxes], [mask for _, mask in boxes], 1, rim=False)
    assert not are_fine([ground()], [np.zeros((48, 48), bool)], 1, rim=False)


def test_a_whole_ring_is_left_to_the_rim():
    image, mask = ground(), np.zeros((48, 48), bool)
    mask[20:28, 20:28] = True
    around = binary_dilation(mask) & ~mask
    image[mask], image[around] = 0.9, 0.6
    assert are_fine([image], [mask], 1, rim=False)
    assert not are_fine([image], [mask], 1, rim=True)


def test_contrast_far_from_the_evidence_counts_less():
    contrast, where = np.zeros((20, 20), np.float32), np.full((20, 20), 0.05, np.float32)
    contrast[5:8, 5:8], contrast[15:17, 15:17] = 1.0, 1.0
    where[4:9, 4:9] = 1.0
    mask = weighed_cut(contrast, where, np.ones((20, 20), bool))
    assert mask[5:8, 5:8].all()
    assert not mask[15:17, 15:17].any()
