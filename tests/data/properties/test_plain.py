"""Each plain property follows what it is called after, and not what it is not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from shortcutscope.data.properties.plain import plain_properties

UNIT = (0.0, 1.0)


@pytest.fixture(scope="module")
def picture():
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.random((96, 96)), 6)
    scaled = (smooth - smooth.min()) / np.ptp(smooth)
    return (0.25 + 0.4 * scaled + 0.01 * rng.standard_normal((96, 96))).astype(np.float32)[None]


def changed(picture, name):
    """By how much a property differs, as a share of itself."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(-0.1, 0.1, 96)
    framed = np.zeros_like(picture)
    framed[:, 6:-4, 5:-5] = picture[:, 6:-4, 5:-5]
    after = {
        "brighter": picture + 0.1,
        "less contrast": picture.mean() + 0.6 * (picture - picture.mean()),
        "noise": picture + 0.05 * rng.standard_normal(picture.shape),
        "blur": gaussian_filter(picture, (0, 1.5, 1.5)),
        "across": picture + ramp,
        "down": picture + ramp[:, None],
        "columns": picture + 0.03 * rng.standard_normal(96),
        "grid": picture + 0.03 * np.sin(np.arange(96) * np.pi / 2 + 0.3),
        "blocks": picture.reshape(1, 12, 8, 12, 8).mean((2, 4)).repeat(8, 1).repeat(8, 2),
        "framed": framed,
    }[name]
    return plain_properties(after, UNIT)


@pytest.mark.parametrize(
    ("name", "prop", "sign"),
    [
        ("brighter", "mean grey", 1),
        ("less contrast", "contrast", -1),
        ("noise", "noise", 1),
        ("blur", "sharpness", -1),
        ("across", "light from left to right", 1),
        ("down", "light from top to bottom", 1),
        ("columns", "vertical stripes", 1),
        ("grid", "repeating pattern", 1),
        ("blocks", "blocks", 1),
        ("framed", "border", 1),
        ("framed", "border brightness", -1),
    ],
)
def test_a_property_follows_its_name(picture, name, prop, sign):
    before, after = plain_properties(picture, UNIT), changed(picture, name)
    assert sign * (after[prop] - before[prop]) > 0.05 * abs(before[prop]) + 0.02


@pytest.mark.parametrize("prop", ["contrast", "sharpness", "noise", "corners", "local contrast"])
def test_brightness_alone_changes_nothing_else(picture, prop):
    before, after = plain_properties(picture, UNIT), changed(picture, "brighter")
    assert after[prop] == pytest.approx(before[prop], rel=0.02, abs=0.01)


@pytest.mark.parametrize("prop", ["sharpness", "evenness", "local contrast", "vertical stripes", "corners"])
def test_what_is_measured_by_the_contrast_does_not_follow_it(picture, prop):
    before, after = plain_properties(picture, UNIT), changed(picture, "less contrast")
    assert after[prop] == pytest.approx(before[prop], rel=0.05, abs=0.05)


def test_too_dark_an_edge_is_no_border(picture):
    ramp = np.clip(np.linspace(-0.2, 1, 96), 0, 0.5).astype(np.float32)
    assert plain_properties(picture * ramp, UNIT)["border"] == 0


def test_colours_are_measured_of_colours_alone(picture):
    grey, colours = plain_properties(picture, UNIT), np.repeat(picture, 3, 0)
    colours[0] += 0.1
    coloured = plain_properties(colours, UNIT)
    assert "warmth" not in grey
    assert coloured["warmth"] == pytest.approx(0.1, abs=1e-4)
    assert coloured["saturation"] > 0.1


def test_volumes_are_measured_by_slices(picture):
    volume = np.repeat(picture[:, None], 6, 1)
    assert plain_properties(volume, UNIT)["mean grey"] == pytest.approx(
        plain_properties(picture, UNIT)["mean grey"], rel=1e-5
    )


@pytest.mark.parametrize(
    "image",
    [np.zeros((1, 64, 64)), np.ones((3, 40, 40)), np.zeros((1, 9, 300)), np.full((1, 8, 8), 0.5)],
)
def test_flat_and_small_pictures_give_finite_numbers(image):
    assert all(np.isfinite(value) for value in plain_properties(image, UNIT).values())


def test_signals_and_what_is_not_finite_give_nothing():
    assert plain_properties(np.zeros((12, 500)), UNIT) == {}
    assert plain_properties(np.full((1, 32, 32), np.nan), UNIT) == {}


@pytest.fixture(scope="module")
def organ(picture):
    """The same picture within a disc on a black background."""
    disc = np.hypot(*np.indices((96, 96)) - 47.5) < 36
    return np.where(disc, picture, 0.0).astype(np.float32)


@pytest.mark.parametrize(
    ("change", "prop", "sign"),
    [
        (lambda p: 0.7 * p, "mean grey", -1),
        (lambda p: np.clip(p, 0, 1) ** 1.4, "mean grey", -1),
        (lambda p: p + 0.1, "mean grey", 1),
        (lambda p: p + np.linspace(-0.1, 0.1, 96, dtype=np.float32), "light from left to right", 1),
        (lambda p: np.where(np.hypot(*np.indices((96, 96)) - 47.5) < 30, p, 0.0), "empty background", 1),
    ],
)
def test_on_a_black_background_the_picture_is_measured_not_the_background(organ, change, prop, sign):
    before, after = plain_properties(organ, UNIT), plain_properties(change(organ).astype(np.float32), UNIT)
    assert sign * (after[prop] - before[prop]) > 0.08
    assert before["empty background"] == pytest.approx(1 - np.pi * 38**2 / 96**2, abs=0.05)
    if prop == "mean grey":
        assert after["empty background"] == pytest.approx(before["empty background"], abs=0.05)
    if prop == "empty background":
        assert after["mean grey"] == pytest.approx(before["mean grey"], abs=0.02)
