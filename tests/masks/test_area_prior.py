"""Accepted areas pick the cut and score it."""

import numpy as np
import pytest

from shortcutscope.masks.area_prior import AreaPrior
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.writer import MaskWriter


def folder_of(path, areas, **told):
    with MaskWriter(path, "tag", {}) as writer:
        for k, area in enumerate(areas):
            mask = np.zeros((10, 10), bool)
            mask.flat[:area] = True
            writer.append(str(k), mask, assessment=Assessment(**told))
    return writer.close()


def test_only_what_a_person_accepted_or_edited_counts(tmp_path):
    assert AreaPrior.from_masks(folder_of(tmp_path / "open", [5] * 9)) is None
    assert AreaPrior.from_masks(folder_of(tmp_path / "no", [5] * 9, accepted=False, edited=True)) is None
    assert AreaPrior.from_masks(folder_of(tmp_path / "few", [5] * 4, accepted=True)) is None
    edited = AreaPrior.from_masks(folder_of(tmp_path / "edited", [5] * 6, edited=True))
    assert (edited.low, edited.high, edited.masks) == pytest.approx((0.05, 0.05, 6))
    accepted = AreaPrior.from_masks(folder_of(tmp_path / "yes", [0, *range(10, 21)], accepted=True))
    assert (accepted.low, accepted.high, accepted.masks) == pytest.approx((0.11, 0.19, 11))


@pytest.mark.parametrize(("share", "expected"), [(0.04, 4), (0.09, 7), (0.05, 5)])
def test_the_cut_of_the_most_ordinary_area_is_taken(share, expected):
    contrast = np.zeros((10, 10), np.float32)
    contrast.flat[:7] = [1.0, 1.0, 1.0, 1.0, 0.55, 0.45, 0.45]
    mask, region = contrast > 0.5, np.ones((10, 10), bool)
    found = AreaPrior(share, share, 9).cut(contrast, region, mask)
    assert found.sum() == expected
    assert (found & mask).sum() == min(expected, 5)


def test_likeness_falls_outside_of_the_range():
    prior = AreaPrior(0.02, 0.04, 9)
    assert prior.likeness(0.03) == 1
    assert 1 > prior.likeness(0.05) > prior.likeness(0.08) > prior.likeness(0) == 0


def test_a_full_region_is_left_alone():
    full = np.ones((4, 4), bool)
    assert AreaPrior(0.1, 0.2, 9).cut(np.ones((4, 4), np.float32), full, full) is full
