from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.pixels.fills import by_convolution, by_inpainting, fill_of, ring
from shortcutscope.pixels.scaled_images import ScaledImages


def by_convolution_slowly(image, mask):
    """Of the whole image at every width, as the equation has it."""
    out, left, sigma = image.copy(), mask.copy(), 1.5
    while left.any():
        weight = gaussian_filter((~mask).astype(np.float32), sigma, mode="nearest")
        value = gaussian_filter(np.where(mask, 0, image).astype(np.float32), sigma, mode="nearest")
        now = left & (weight > 0.05)
        out[now] = value[now] / weight[now]
        left &= ~now
        sigma *= 2
    return out


@settings(max_examples=15)
@given(st.integers(0, 999), st.integers(2, 9), st.integers(2, 9))
def test_convolution_fills_as_the_equation_has_it(seed, height, width):
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.random((40, 44)), 2).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    top, left = rng.integers(12, 24, 2)
    mask[top : top + height, left : left + width] = True
    filled = by_convolution(image[None], mask)[0]
    np.testing.assert_allclose(filled, by_convolution_slowly(image, mask), atol=2e-4)
    np.testing.assert_array_equal(filled[~mask], image[~mask])


@pytest.mark.parametrize("shape", [(3, 20, 24), (1, 8, 10, 12), (2, 60)])
def test_a_mark_on_a_plain_image_is_gone(shape):
    image = np.full(shape, 0.25, np.float32)
    mask = np.zeros(shape if len(shape) == 2 else shape[1:], bool)
    mask[(slice(2, 6),) * mask.ndim if mask.ndim > 1 else slice(2, 6)] = True
    if len(shape) == 2:
        mask[:], mask[1, 10:20] = False, True
    image[..., mask] = 1
    np.testing.assert_allclose(by_convolution(image, mask), 0.25, atol=1e-5)
    if len(shape) == 3:
        np.testing.assert_allclose(by_inpainting(image, mask), 0.25, atol=1e-3)


def test_what_covers_all_is_left_as_it_is():
    image = np.random.default_rng(0).random((1, 9, 9)).astype(np.float32)
    np.testing.assert_array_equal(by_convolution(image, np.ones((9, 9), bool)), image)


def test_a_similar_image_gives_its_place_at_the_level_of_the_ring():
    rng = np.random.default_rng(1)
    base = gaussian_filter(rng.random((3, 32, 32)), (0, 2, 2)) * 0.4
    marked = base[1] + 0.05
    marked[10:16, 10:16] = 1
    images = np.concatenate([base, marked[None]])
    scaled = ScaledImages.of(ImageTable.from_arrays(images, [0, 1, 0, 1]))
    mask = np.zeros((32, 32), bool)
    mask[10:16, 10:16] = True
    filled = fill_of("similar", scaled, [0, 1, 2])(scaled[3], mask)
    np.testing.assert_allclose(filled[0], base[1] + 0.05, atol=1e-4)


def test_the_ring_keeps_away_from_the_mask():
    mask = np.zeros((20, 20), bool)
    mask[9:11, 9:11] = True
    around = ring(mask)
    assert not (around & mask).any()
    assert around.sum() > mask.sum()


def test_unknown_fills_are_refused():
    scaled = ScaledImages.of(ImageTable.from_arrays(np.zeros((2, 1, 8, 8, 8)), [0, 1], dims=3))
    with pytest.raises(InputError, match="convolution, similar, inpaint"):
        fill_of("magic", scaled, [0])
    with pytest.raises(InputError, match="volumes are filled by 'convolution'"):
        fill_of("inpaint", scaled, [0])
