"""Properties of pictures against plain definitions, and against what was done to the pictures."""

import numpy as np
import pytest
from scipy import ndimage

from shortcutscope.data.properties.names import OF_PICTURES
from shortcutscope.data.properties.pictures import picture_properties

RANGE = (0.0, 1.0)


def scene(seed=0, side=96, noise=0.03):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), 6)
    return 0.5 + 0.12 * smooth / smooth.std() + noise * rng.normal(size=(side, side))


def measured(picture, value_range=RANGE):
    return picture_properties(np.asarray(picture, np.float32)[None], value_range)


def test_values_are_those_of_plain_definitions():
    picture = scene().astype(np.float32)
    values = measured(picture)
    laplacian = ndimage.laplace(picture)[1:-1, 1:-1]
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    residual = np.abs(ndimage.convolve(picture, mask)[1:-1, 1:-1])
    assert values["picture_mean_grey"] == pytest.approx(picture.mean(), abs=1e-5)
    assert values["picture_contrast"] == pytest.approx(picture.std(), abs=1e-5)
    assert values["picture_sharpness"] == pytest.approx(laplacian.var() / picture.var(), abs=1e-5)
    assert values["picture_noise"] == pytest.approx(np.sqrt(np.pi / 2) / 6 * residual.mean(), abs=1e-5)
    assert values["picture_border"] == 0


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.08])
def test_the_noise_is_the_one_that_was_added(sigma):
    assert measured(scene(noise=sigma))["picture_noise"] == pytest.approx(sigma, rel=0.1)


def test_the_rim_is_measured_and_left_out_of_the_rest():
    inside = scene()
    framed = np.zeros((120, 130))
    framed[20:116, 30:126] = inside
    values, bare = measured(framed), measured(inside)
    assert values.pop("picture_border") == pytest.approx(1 - 96 * 96 / (120 * 130), abs=1e-5)
    assert values == {name: value for name, value in bare.items() if name != "picture_border"}


def test_units_are_shares_of_the_value_range():
    assert measured(scene() * 2000 - 1000, (-1000.0, 1000.0)) == pytest.approx(measured(scene()), abs=2e-5)


def test_colours_are_measured_of_colours_alone():
    picture = np.repeat(scene()[None], 3, axis=0).astype(np.float32)
    grey = picture_properties(picture, RANGE)
    assert (grey["picture_saturation"], grey["picture_warmth"]) == (0, 0)
    picture[2] -= 0.2
    warm = picture_properties(picture, RANGE)
    assert warm["picture_warmth"] == pytest.approx(0.2, abs=1e-4)
    assert set(warm) == set(OF_PICTURES)
    assert not {"picture_saturation", "picture_warmth"} & set(measured(scene()))


def test_volumes_are_measured_by_slices_and_signals_not_at_all():
    volume = np.stack([scene(seed) for seed in range(3)])[None].astype(np.float32)
    flat = [measured(scene(seed))["picture_noise"] for seed in range(3)]
    assert picture_properties(volume, RANGE)["picture_noise"] == pytest.approx(np.mean(flat), abs=1e-5)
    assert picture_properties(np.zeros((12, 1000)), RANGE) == {}


def test_what_cannot_be_measured_is_left_out():
    assert measured(np.full((32, 32), 0.3)) == {"picture_border": 1.0}
    assert measured(scene()[:4, :4]).keys() == {"picture_border"}
    assert measured(np.where(np.eye(32) > 0, np.nan, scene(side=32))) == {}
