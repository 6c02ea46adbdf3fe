"""Contrast: what a pixel is compared with, which way explains carriers, and soft edges."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter, median_filter

from shortcutscope.masks.contrast import (
    WINDOWS,
    Contrast,
    ImageStatistics,
    _exceeding,
    background,
    choose_contrast,
    cut,
    separation,
    signs_of,
    soft_rim,
)
from shortcutscope.masks.thresholds import threshold_of


def images(n, seed, size=32):
    generator = np.random.default_rng(seed)
    smooth = gaussian_filter(generator.standard_normal((n, size, size)), (0, 6, 6)) * 4
    return (smooth + 0.02 * generator.standard_normal((n, size, size))).astype(np.float32)[:, None]


def with_dots(plain, height, seed):
    """Three by one pixels, somewhere; and where."""
    generator = np.random.default_rng(seed)
    changed, truth = plain.copy(), np.zeros((len(plain), *plain.shape[2:]), bool)
    for k in range(len(plain)):
        y, x = generator.integers(6, 24, 2)
        truth[k, y : y + 3, x] = True
        changed[k, 0][truth[k]] += height
    return changed, truth


def around(truth):
    return np.stack([gaussian_filter(mask.astype(np.float32), 2) for mask in truth])


def test_small_images_have_the_plain_local_median():
    values = images(2, 0)[:, 0]
    exact = median_filter(values, (1, 5, 5), mode="nearest")
    np.testing.assert_allclose(background(values, 9 / 64), exact, atol=np.ptp(values) / 500)


def test_small_volumes_have_it_as_well():
    values = np.random.default_rng(0).normal(size=(2, 16, 18, 20)).astype(np.float32)
    exact = median_filter(values, (1, 5, 5, 5), mode="nearest")
    np.testing.assert_allclose(background(values, 5 / 16), exact, atol=np.ptp(values) / 250)
    values[np.random.default_rng(1).random(values.shape) < 0.8] = 0.0
    assert (background(values, 5 / 16) == 0).all()


def test_marks_of_a_pixel_leave_the_background_alone():
    plain = np.zeros((1, 64, 64), np.float32)
    marked = plain.copy()
    marked[:, ::4, -6:-1] = 1
    assert np.abs(background(marked, 9 / 64)).max() == 0


def test_the_background_of_a_large_image_is_taken_on_a_small_one():
    values = np.repeat(np.repeat(images(1, 0)[:, 0], 4, 1), 4, 2)
    assert background(values, 9 / 64).shape == values.shape
    assert np.abs(background(values, 9 / 64) - gaussian_filter(values, (0, 8, 8))).mean() < 0.1


@pytest.mark.parametrize(("height", "sign"), [(1.0, "brighter"), (-1.0, "darker")])
def test_the_sign_of_an_artifact_is_found(height, sign):
    changed, truth = with_dots(images(40, 1), height, seed=2)
    others = images(40, 3)
    statistics = ImageStatistics.fit(others)
    choice = choose_contrast(changed, others, around(truth), statistics)
    assert choice.contrast.sign in (sign, "either")
    assert choice.rim == 0
    values = choice.contrast.of(changed, statistics)
    masks = [cut(v, binary_dilation(m, iterations=3)) for v, m in zip(values, truth, strict=True)]
    overlap = [(a & b).sum() / (a | b).sum() for a, b in zip(masks, truth, strict=True)]
    assert np.mean(overlap) > 0.8


def test_gaps_beside_bright_marks_are_not_taken_for_dark_ones():
    plain, others = images(40, 1), images(40, 3)
    truth = np.zeros((40, 32, 32), bool)
    truth[:, 8:20:2, 8:20] = True  # in a narrow window half is bright and half is not
    hatched = np.where(truth[:, None], plain + 0.8, plain).astype(np.float32)
    statistics, where = ImageStatistics.fit(others), np.zeros((40, 32, 32), np.float32)
    where[:, 6:22, 6:22] = 1
    choice = choose_contrast(hatched, others, where, statistics)
    assert choice.contrast.sign == "brighter"
    values = choice.contrast.of(hatched, statistics)
    inside = where[0] > 0
    assert (cut(values[0], inside) & truth[0]).sum() > 0.8 * truth[0].sum()
    assert (cut(values[0], inside) & ~truth[0]).sum() < 0.2 * truth[0].sum()


def test_signs_are_those_of_unusual_pixels():
    others = np.random.default_rng(0).standard_normal((60, 8, 8)).astype(np.float32)
    where = [np.ones((8, 8), bool)] * 60
    changed = others.copy()
    changed[:, :2] = 3
    assert signs_of(changed, others[::-1], where) == ("brighter",)
    assert signs_of(-changed, others[::-1], where) == ("darker",)
    changed[::2] *= -1  # black letters in some images, white ones in the others
    assert "either" in signs_of(changed, others[::-1], where)
    assert "either" in signs_of(others, others, where)


def test_noisier_others_do_not_hide_a_clear_gap():
    """Between background and marks any threshold cuts carriers alike; Otsu's lies right above their noise."""
    generator = np.random.default_rng(3)
    values = np.concatenate([generator.normal(0, 0.1, 250), np.full(26, 3.0)]).astype(np.float32)
    noisier = generator.normal(0, 0.3, values.size).astype(np.float32)
    limit = threshold_of(values)
    assert (noisier > limit).sum() > 20
    assert _exceeding([(values, noisier)], "otsu") == ((values > limit).sum(), 0)
    assert _exceeding([(np.zeros(9, np.float32), noisier[:9])], "otsu") == (0, 0)


def test_marks_on_ground_that_varies_are_drawn_whole():
    """Half of them stand out less where images differ more; what surrounds them tells all of them."""
    generator = np.random.default_rng(4)
    plain = images(60, 5) * np.where(np.arange(32) < 16, 0.05, 1.0).astype(np.float32)
    noise = generator.uniform(0.02, 0.12, (60, 1, 1, 1)) * generator.standard_normal(plain.shape)
    plain = (plain + noise).astype(np.float32)
    truth = np.zeros((32, 32), bool)
    truth[10:18, [8, 22]] = True
    with_marks, without = plain[:30] + 1.5 * truth.astype(np.float32), plain[30:]
    evidence = np.repeat(around(truth[None]), 30, axis=0)
    statistics = ImageStatistics.fit(without)
    choice = choose_contrast(with_marks, without, evidence, statistics)
    contrast = choice.contrast.of(with_marks, statistics)
    found = [cut(values, where > 0, "otsu") for values, where in zip(contrast, evidence, strict=True)]
    assert choice.contrast.base in WINDOWS
    assert np.mean([(one & truth).sum() / (one | truth).sum() for one in found]) > 0.9


def test_colour_is_a_plane_of_its_own():
    grey = np.repeat(images(30, 1), 3, 1)
    reddish, truth = grey.copy(), np.zeros((30, 32, 32), bool)
    truth[:, 10:14, 10:14] = True
    reddish[:, 0][truth] += 0.6
    reddish[:, 1][truth] -= 0.6
    choice = choose_contrast(reddish, grey, around(truth), ImageStatistics.fit(grey))
    assert choice.contrast.plane in (1, 2)
    assert "channel" in str(choice.contrast)


def test_soft_edges_grow_and_hard_ones_do_not():
    y = np.arange(40)[:, None] - 20.0
    soft = np.repeat(np.exp(-(y**2) / (2 * 2.0**2)), 40, 1)[None]
    hard = np.zeros((1, 40, 40))
    hard[:, 18:23] = 1
    assert soft_rim(soft, [soft[0] > 0.5]) >= 1
    assert soft_rim(hard, [hard[0] > 0.5]) == 0
    dark_gaps = hard.copy()
    dark_gaps[:, binary_dilation(hard[0] > 0.5) & (hard[0] <= 0.5)] = -0.6
    assert soft_rim(dark_gaps, [hard[0] > 0.5]) == 0
    assert soft_rim(-soft, [soft[0] > 0.5]) >= 1


def test_separation_is_otsus_share_of_the_variance():
    region = np.ones((4, 4), bool)
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    assert separation(mask.astype(np.float32), region, mask) == pytest.approx(1)
    assert separation(mask.astype(np.float32), region, region) == 0
    assert 0 < separation(mask + np.arange(16).reshape(4, 4) % 2 * 0.5, region, mask) < 1


def test_a_contrast_with_surroundings_needs_no_usual_images():
    plain = images(2, 0)
    statistics = ImageStatistics.fit(plain)
    np.testing.assert_array_equal(
        Contrast("narrow", "either").of(plain, statistics),
        np.abs(plain[:, 0] - background(plain[:, 0], 9 / 64)),
    )
