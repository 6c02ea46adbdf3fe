import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.filters import Bank, filter_bank, image_bank, refusal, widths
from shortcutscope.errors import InputError


def column(bank: Bank, name: str) -> np.ndarray:
    return bank.values[:, bank.names.index(name)]


@given(st.integers(1, 4), st.integers(16, 40), st.integers(16, 40))
@settings(max_examples=15, deadline=None)
def test_a_bank_is_finite_float32_and_named_whatever_channels_and_sides(channels, height, width):
    images = np.random.default_rng(0).random((3, channels, height, width), dtype=np.float32)
    values, names = filter_bank(images)
    assert values.dtype == np.float32
    assert values.shape == (3, len(names))
    assert np.isfinite(values).all()
    assert len(set(names)) == len(names)


@given(st.integers(16, 40), st.integers(16, 40))
@settings(max_examples=8, deadline=None)
def test_the_flattest_places_are_those_that_one_finds_window_by_window(height, width):
    images = np.random.default_rng(height + width).random((2, 1, height, width), dtype=np.float32)
    images[0] += np.linspace(0, 1, width)
    values, names = filter_bank(images, flat=True)
    plain, plain_names = filter_bank(images)
    kept = [names.index(name) for name in plain_names]
    np.testing.assert_array_equal(values[:, kept], plain)
    assert len(set(names)) == len(names)
    for k, image in enumerate(images[:, 0]):
        windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3)).reshape(-1, 9)
        span, middle = np.ptp(windows, axis=1), (windows.max(1) + windows.min(1)) / 2
        for side, of in (("bright", middle >= image.mean()), ("dark", middle < image.mean())):
            assert values[k, names.index(f"flattest 3 {side}")] == pytest.approx(span[of].min(), abs=1e-6)


def test_a_box_of_one_value_is_flat_on_its_side_alone_and_a_plain_image_on_none():
    noise = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)
    boxed, plain = noise.copy(), np.full_like(noise, 0.5)
    boxed[..., 40:47, 40:47] = 0.9
    (empty, bright, same), names = filter_bank(np.concatenate([noise, boxed, plain]), flat=True)
    at = {name: k for k, name in enumerate(names)}
    for size in (3, 5):
        assert bright[at[f"flattest {size} bright"]] == 0
        assert empty[at[f"flattest {size} bright"]] > 0.1
        assert bright[at[f"flattest {size} dark"]] == empty[at[f"flattest {size} dark"]] > 0.1
    assert bright[at["flattest 9 bright"]] > 0.1  # wider than the box
    assert np.isfinite(same).all()


def test_a_bands_mean_size_is_that_of_the_difference_of_two_gaussians():
    image = np.random.default_rng(1).random((1, 1, 64, 64), dtype=np.float32)
    values, names = filter_bank(image)
    fine = gaussian_filter(image[0, 0], 0.7, mode="nearest")
    coarse = gaussian_filter(image[0, 0], 1.4, mode="nearest")
    assert values[0, names.index("band 1.4 size")] == pytest.approx(np.abs(fine - coarse).mean(), rel=1e-4)
    assert values[0, names.index("band 1.4 max")] == pytest.approx((fine - coarse).max(), rel=1e-4)


def test_wider_images_have_more_bands():
    assert widths(64, 64) == pytest.approx([0.7, 1.4, 2.8, 5.6])
    assert len(widths(224, 300)) == 5
    assert len(widths(16, 16)) == 2


def test_the_bank_is_the_same_in_any_batches(noise_images):
    table = noise_images(n=10)
    whole = image_bank(table, batch_size=10, progress=False)
    pieces = image_bank(table, batch_size=3, progress=False)
    np.testing.assert_allclose(whole.values, pieces.values, rtol=1e-5)
    assert whole.values.shape[0] == 10


def test_a_square_shows_in_the_finest_band_and_a_tint_in_its_channel(noise_images):
    table = noise_images(n=40, channels=3)
    carriers = table.frame["square"].to_numpy() == 1
    bank = image_bank(table, progress=False)
    top = column(bank, "grey max")
    assert top[carriers].min() > top[~carriers].max()
    images = np.full((2, 3, 32, 32), 0.5, np.float32)
    images[1, 2] += 0.2
    values, names = filter_bank(images)
    tint = values[:, names.index("channel 2 mean")]
    assert tint[0] == pytest.approx(0, abs=1e-6)
    assert tint[1] > 0.1


def test_other_layouts_and_tiny_images_are_refused_with_the_reason():
    assert refusal((1, 64, 64)) is None
    assert "(1, 8, 64, 64)" in str(refusal((1, 8, 64, 64)))
    assert "too small" in str(refusal((1, 8, 64)))
    signals = ImageTable.from_arrays(
        np.random.default_rng(0).random((6, 2, 50)), [0, 1] * 3, channels_last=False, dims=1
    )
    with pytest.raises(InputError, match="filter bank reads images"):
        image_bank(signals, progress=False)
