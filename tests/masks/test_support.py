"""What speaks for a mask: each question is answered by a case in which the others are not low."""

import numpy as np
import pytest

from shortcutscope.masks.support import agreement, distinctness, meeting, support, wholeness

SIDE = 48


def line(start, stop, row=20):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[row : row + 2, start:stop] = True
    return mask


def pictured(mask, ground=0.0):
    noise = np.random.default_rng(0).normal(0, 0.02, mask.shape)
    return (np.where(mask, 1.0, ground) + noise).astype(np.float32)


def test_an_exact_mask_of_what_stands_out_has_full_support():
    truth = line(8, 40)
    image = pictured(truth)
    assert support(image, image, [truth.astype(np.float32)], truth) > 0.98
    assert support(image, image, [truth.astype(np.float32)], np.zeros_like(truth)) == 0


def test_of_what_is_said_the_one_that_agrees_best_counts():
    truth = line(8, 40)
    image, silent, votes = pictured(truth), np.zeros(truth.shape, np.float32), truth.astype(np.float32)
    assert support(image, image, [silent], truth) < 0.7
    assert support(image, image, [silent, votes], truth) > 0.98


def test_a_piece_of_a_line_goes_on():
    truth = line(8, 40)
    image = pictured(truth)
    assert wholeness(image, line(8, 16)) == pytest.approx(0.25)
    assert wholeness(image, truth) == 1
    # The rest of the line is further away than what distinctness looks at.
    assert distinctness(image, line(8, 16)) > 0.5
    assert support(image, image, [truth.astype(np.float32)], line(8, 16)) < 0.6


def test_on_ground_as_bright_a_mask_is_not_distinct_whatever_the_contrast():
    truth = line(8, 40)
    dark, bright = pictured(truth), pictured(truth, ground=0.98)
    assert distinctness(dark, truth) > 0.95
    assert distinctness(bright, truth) < 0.3


def test_what_is_right_around_grows_with_the_image_and_no_mask_is_all_of_it():
    assert distinctness(np.ones((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), bool)) == 0
    small, large = line(8, 40), np.kron(line(8, 40), np.ones((4, 4))).astype(bool)
    by_side = [distinctness(pictured(mask), mask) for mask in (small, large)]
    assert by_side[0] == pytest.approx(by_side[1], abs=0.02)


def test_agreement_is_the_overlap_of_certain_pixels_and_less_of_likely_ones():
    truth = line(8, 40)
    assert agreement(line(24, 40).astype(np.float32), truth) == pytest.approx(0.5)
    assert agreement(0.4 * truth.astype(np.float32), truth) == pytest.approx(0.4)
    assert agreement(np.zeros(truth.shape, np.float32), np.zeros_like(truth)) == 0


def test_what_lies_in_the_other_meets_it_however_small():
    assert meeting(line(8, 40), line(8, 12)) == 1
    assert meeting(line(8, 12), line(14, 40)) == 0
    assert meeting(line(8, 12), np.zeros((SIDE, SIDE), bool)) == 0
