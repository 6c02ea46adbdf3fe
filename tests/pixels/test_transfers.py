from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from shortcutscope.pixels.choice import Candidate, best, possible
from shortcutscope.pixels.transfers import TRANSFERS, moved
from shortcutscope.pixels.transfers.levels import with_mean
from shortcutscope.pixels.transfers.measures import noise, rim_of, sharpness
from shortcutscope.pixels.transfers.side import Side, has_dark_background, matched, side_of

RNG = np.random.default_rng(0)


def smooth(n, shape=(1, 32, 32), seed=0):
    rng = np.random.default_rng(seed)
    axes = tuple(range(2, len(shape) + 1))
    images = gaussian_filter(rng.random((n, *shape)), 2, axes=axes)
    return (0.3 + 2 * (images - images.mean())).clip(0.02, 0.9).astype(np.float32)


def side(images, dark=False):
    return Side(lambda: list(images), dark)


EDITS = {
    "exposure": lambda x, rng: x**0.6,
    "offset": lambda x, rng: x + 0.1,
    "contrast": lambda x, rng: x.mean() + 1.4 * (x - x.mean()),
    "noise": lambda x, rng: x + 0.05 * rng.standard_normal(x.shape),
    "sharpness": lambda x, rng: gaussian_filter(x, (0, 1, 1)),
    "histogram": lambda x, rng: x**0.6,
}
MEASURES = {
    "exposure": np.mean, "offset": np.mean, "contrast": np.std, "noise": noise, "sharpness": sharpness,
    "histogram": np.mean,
}  # fmt: skip


@pytest.mark.parametrize("name", list(EDITS))
def test_the_measure_arrives_on_the_other_side(name):
    rng = np.random.default_rng(3)
    images = smooth(40) + 0.01 * np.random.default_rng(9).standard_normal((40, 1, 32, 32)).astype(np.float32)
    others = np.stack([EDITS[name](x, rng) for x in images[20:]]).astype(np.float32).clip(0, 1)
    own, other, measure = side(images[:20]), side(others), MEASURES[name]
    here, there = (np.mean([measure(x) for x in some]) for some in (images[:20], others))
    arrived = np.mean([measure(moved(name, x, own, other, rng)) for x in images[:20]])
    assert abs(arrived - there) < 0.35 * abs(here - there)


@pytest.mark.parametrize("name", list(TRANSFERS))
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 40), (1, 12, 16, 16), (4, 128)])
def test_every_transfer_keeps_shape_and_range(name, shape):
    if len(shape) - 1 not in TRANSFERS[name].dims:
        return
    images = smooth(12, shape)
    other = (images[6:] * 0.7).astype(np.float32)
    new = moved(name, images[0], side(images[:6]), side(other), np.random.default_rng(0))
    assert new.shape == shape
    assert new.dtype == np.float32
    assert 0 <= new.min() <= new.max() <= 1


def test_sides_that_are_alike_move_nothing_but_noise():
    images = smooth(12)
    for name in possible(2, same_size=True):
        new = moved(name, images[0], side(images), side(images), np.random.default_rng(0))
        assert np.abs(new - images[0]).max() < 0.02, name


def test_a_black_background_stays_black():
    images = smooth(12)
    images[..., :12] = 0
    assert has_dark_background(images)
    assert not has_dark_background(smooth(12))
    new = moved(
        "offset", images[0], side(images[:6], True), side((images[6:] + 0.2) * (images[6:] > 0), True), RNG
    )
    assert (new[..., :12] == 0).all()
    assert new[..., 12:].mean() - images[0][..., 12:].mean() == pytest.approx(0.2, abs=0.06)


def test_a_gamma_gives_the_mean_that_is_asked_for():
    image = smooth(1)[0]
    for target in (0.1, 0.3, 0.7):
        assert with_mean(image, target).mean() == pytest.approx(target, abs=2e-3)


def test_values_are_matched_by_quantiles_and_by_means_where_there_are_few():
    own, other = np.linspace(0, 1, 21)[:, None], np.linspace(2, 6, 41)[:, None]
    assert matched(np.array([0.25]), own, other)[0] == pytest.approx(3)
    assert matched(np.array([1.5]), own, other)[0] == pytest.approx(6.5)
    assert matched(np.array([0.25]), own[:5], other)[0] == pytest.approx(0.25 + 4 - own[:5].mean())


def test_a_frame_is_laid_over_and_taken_away():
    plain = smooth(12)
    framed = plain.copy()
    framed[:, :, :5] = 0.05
    framed[:, :, :, -4:] = 0.05
    rng = np.random.default_rng(0)
    assert rim_of(framed[0]) == (5 / 32, 0, 0, 4 / 32)
    without = moved("frame", framed[0], side(framed), side(plain), rng)
    assert rim_of(without) == (0, 0, 0, 0)
    np.testing.assert_array_equal(without[:, 6:, :-5], framed[0][:, 6:, :-5])
    with_it = moved("frame", plain[0], side(plain), side(framed), rng)
    assert rim_of(with_it) == rim_of(framed[0])


def test_a_null_takes_the_level_of_one_other_image():
    images = smooth(2)
    new = moved("exposure", images[0], side_of(images[0]), side_of(images[1] * 0.5), RNG)
    assert new.mean() == pytest.approx(images[1].mean() * 0.5, abs=2e-3)


def test_the_gentlest_of_the_transfers_that_arrive_is_taken():
    far = Candidate("far", 0.1, 0.2, 0.99, 0.99, 0.001)
    left = Candidate("left", 1, 1, 0.95, 0.95, 0.01)
    good = Candidate("good", 1, 0.9, 0.6, 0.6, 0.2)
    gentle = Candidate("gentle", 1, 0.9, 0.65, 0.65, 0.1)
    assert best([far, left, good, gentle]).name == "gentle"
    assert best([far]).name == "far"


def test_of_a_measured_property_only_what_moves_it_counts():
    blind = Candidate("blind", 1, 1, 0.5, 0.5, 0.01, 0.99, 0.98)
    seen = Candidate("seen", 1, 1, 0.9, 0.9, 0.2, 0.5, 0.52)
    assert best([blind, seen]).name == "seen"
    assert seen.arrived("with")
    assert not blind.arrived("without")


def test_the_background_alone_takes_another_level():
    rng = np.random.default_rng(1)
    image = np.full((3, 32, 32), 0.2, np.float32) + rng.normal(0, 0.02, (3, 32, 32)).astype(np.float32)
    image[:, 8:20, 8:20] = 0.9
    other = np.full((3, 32, 32), 0.6, np.float32)
    new = moved("background", image, side([image]), side([other]), RNG)
    assert np.median(new[:, :6]) == pytest.approx(0.6, abs=0.02)
    assert np.abs(new[:, 10:18, 10:18] - 0.9).max() < 0.01
    assert "background" not in possible(2, same_size=True)
