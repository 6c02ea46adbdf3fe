"""Made-up drawings: changed pixels are told exactly, of images of any size, range and number of channels."""

import numpy as np
import pytest
import torch

from shortcutscope.masks.patches.made_up import DRAWINGS, VISIBLE, MadeUp


def noise(n=12, channels=1, size=(24, 40), low=0.0, high=1.0):
    values = np.random.default_rng(0).uniform(low, high, (n, channels, *size))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 2.0), (0.0, 4095.0)])
def test_the_mask_is_what_changed_and_values_stay_in_range(channels, low, high):
    images = noise(channels=channels, low=low, high=high)
    before = images.clone()
    made_up = MadeUp.of(images, np.random.default_rng(1))
    drawn, changed = made_up.over(images, np.random.default_rng(2))
    assert torch.equal(images, before)
    assert changed.shape == (12, 24, 40)
    seen = (drawn - images).abs().amax(1) > VISIBLE * (made_up.high - made_up.low)
    assert torch.equal(seen, changed.bool())
    assert (changed.flatten(1).sum(1) > 0).float().mean() > 0.7
    assert changed.mean() < 0.5
    assert drawn.min() >= low - 1e-3 * (high - low)
    assert drawn.max() <= high + 1e-3 * (high - low)


def test_drawings_cover_whole_pixels_and_parts():
    made_up = MadeUp.of(noise(), np.random.default_rng(1))
    assert made_up.covers.shape == (DRAWINGS, 24, 40)
    assert made_up.covers.min() >= 0
    assert made_up.covers.max() == 1
    assert ((made_up.covers > 0) & (made_up.covers < 1)).any()
    assert (made_up.fillings == 1).flatten(1).all(1).float().mean() == pytest.approx(0.8, abs=0.1)


def test_the_same_generator_draws_the_same():
    images = noise()
    made_up = MadeUp.of(images, np.random.default_rng(1))
    first, second = (made_up.over(images, np.random.default_rng(5))[0] for _ in range(2))
    assert torch.equal(first, second)
