from dataclasses import replace

import numpy as np
import pytest
import torch

from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.extent.cells import CellMap, cell_map
from shortcutscope.probes.extent.measuring import (
    ExtentFeatures,
    ExtentRule,
    ExtentSamples,
    decide,
    input_cells,
    measure_extent,
)
from shortcutscope.probes.extent.places import PEAKS, PlaceReadings, peaks, quantiles, read_places

N, SIDE = 240, 64
LABELS = np.arange(N) % 2
CONCEPT = (np.arange(N) // 2 % 2).astype(float)
FOLDS = make_folds(LABELS, np.arange(N), CONCEPT)
WEIGHTS = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N), 40).astype(float)


def scenes(change, seed=0):
    """Textured objects that are elsewhere in every image, on even ground whose grey differs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    images = []
    for carrier in CONCEPT:
        image = np.full((SIDE, SIDE), rng.uniform(0.1, 0.3))
        for _ in range(3):
            down, right = rng.uniform(0, 1, 2)
            inside = np.hypot(y - down, x - right) < rng.uniform(0.2, 0.35)
            image = np.where(inside, 0.5 + 0.15 * rng.standard_normal((SIDE, SIDE)), image)
        images.append(change(image, rng) if carrier else image)
    return torch.from_numpy(np.stack(images)[:, None]).float()


def grain(image, rng):
    return image + 0.01 * rng.standard_normal(image.shape)


def square(image, rng):
    down, right = rng.integers(0, SIDE - 6, 2)
    image = image.copy()
    image[down : down + 6, right : right + 6] = 1.5
    return image


def measured(images, encoded=0.6, concept=CONCEPT):
    samples = ExtentSamples(concept, LABELS, FOLDS, WEIGHTS)
    features = ExtentFeatures(input_cells(images).numpy(), {}, {})
    return measure_extent(samples, features, encoded_auroc=encoded)


def test_what_shows_only_on_even_ground_is_diffuse_though_few_cells_are_lit():
    found = measured(scenes(grain))
    assert found.input_map.lit_share < 0.38
    assert found.places.quiet > 0.95
    assert found.verdict == "diffuse"
    assert "quiet places" in found.reason


def test_what_moves_about_is_localized_though_the_network_hardly_knows_it():
    found = measured(scenes(square))
    assert found.input_map.lit_share < 0.1
    assert found.places.moving > 0.9
    assert found.places.quiet < 0.6
    assert found.verdict == "localized"


def test_what_nothing_tells_stays_undetermined():
    found = measured(scenes(lambda image, rng: image))
    assert max(found.places.quiet, found.places.moving, found.places.loud) < 0.6
    assert (found.verdict, found.reason.count("too weakly encoded")) == ("undetermined", 1)


@pytest.mark.parametrize("change", [grain, square])
def test_naming_the_other_value_present_changes_nothing(change):
    images = scenes(change)
    one, other = measured(images), measured(images, concept=1 - CONCEPT)
    assert one.verdict == other.verdict
    for name in ("quiet", "moving", "loud", "by_chance"):
        assert getattr(one.places, name) == pytest.approx(getattr(other.places, name), abs=1e-6)


def test_quantiles_are_those_of_the_chosen_places():
    rng = np.random.default_rng(0)
    values, chosen = rng.standard_normal((9, 20, 3)), rng.random((9, 20)) < 0.5
    chosen[0] = False
    chosen[0, 7] = True
    shares = (0.0, 0.1, 0.5, 1.0)
    slow = [np.quantile(v[c], shares, axis=0).ravel() for v, c in zip(values, chosen, strict=True)]
    np.testing.assert_allclose(quantiles(values, chosen, shares), slow, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 100), (70, 64), (3, 40, 24), (1, 12, 14, 16)])
@pytest.mark.parametrize("is_empty", [True, False])
def test_signals_many_leads_colours_volumes_and_empty_inputs_are_read(shape, is_empty):
    rng = np.random.default_rng(0)
    x = np.zeros((N, *shape), np.float32)
    if not is_empty:
        x += rng.standard_normal(x.shape, np.float32)
        x[CONCEPT == 1] *= 2
    found = measured(torch.from_numpy(x))
    assert found.verdict == ("undetermined" if is_empty else "diffuse")
    if is_empty:
        assert found.places.loud == 0.5


def test_lit_cells_and_their_neighbours_are_not_asked():
    rng = np.random.default_rng(0)
    features = rng.random((N, 6 + PEAKS, 16, 16))
    features[CONCEPT == 1, :, 4:6, 4:6] += 5
    cells = cell_map(features, CONCEPT, LABELS, FOLDS, lit_above=0.6)
    read = read_places(features, cells, CONCEPT, LABELS, FOLDS, WEIGHTS, smallest=26)
    assert read.loud == 1
    assert max(read.quiet, read.moving) < 0.65
    lit = CellMap(cells.auroc, 1.0, lit=np.ones((16, 16), np.bool_))
    read = read_places(features, lit, CONCEPT, LABELS, FOLDS, WEIGHTS, smallest=26)
    assert np.isnan([read.quiet, read.moving]).all()


@pytest.mark.parametrize("shape", [(100,), (40, 24), (12, 14, 16)])
def test_peaks_are_the_largest_contrasts_of_each_cell(shape):
    x = torch.zeros(2, 3, *shape)
    middle = tuple(side // 2 for side in shape)
    x[(1, slice(None), *middle)] = 1
    found = peaks(x)
    assert found.shape[:2] == (2, PEAKS)
    assert found[0].abs().max() == 0
    assert found[1, 0].max() == pytest.approx(1 - 3.0 ** -len(shape))
    assert (found[1, 0] > 0).sum() == 1


FEW = CellMap(np.full((16, 16), 0.5), 0.05, (0.02, 0.1))
SOME = CellMap(np.full((16, 16), 0.5), 0.5, (0.4, 0.6))
DIM = CellMap(np.full((16, 16), 0.5), 0.05, (0.0, 0.1), dim=1.0)
BACKGROUND = replace(DIM, has_empty=True)
ORGAN = replace(BACKGROUND, auroc=np.r_[np.full((8, 16), 0.5), np.full((8, 16), np.nan)])
TOLD = CellMap(np.r_[np.full((15, 16), 0.5), np.full((1, 16), 0.8)], 0.06, (0.05, 0.1))
SMALL = CellMap(np.r_[np.full((4, 16), 0.5), np.full((12, 16), np.nan)], 0.05, (0.0, 0.1))


@pytest.mark.parametrize(
    ("cells", "places", "encoded", "verdict"),
    [
        (FEW, PlaceReadings(0.5, 0.5, 0.9), 0.6, "localized"),
        (FEW, PlaceReadings(0.5, 0.5, 0.9, loud_apart=False), 0.6, "undetermined"),
        (FEW, PlaceReadings(0.5, 0.9, 0.9, loud_apart=False), 0.6, "localized"),
        (FEW, PlaceReadings(0.5, 0.9, 0.9, moving_apart=False, loud_apart=False), 0.6, "undetermined"),
        (FEW, PlaceReadings(0.5, 0.5, 0.7), 0.6, "undetermined"),
        (FEW, PlaceReadings(0.5, 0.5, 0.7), 0.9, "localized"),
        (FEW, PlaceReadings(0.65, 0.9, 0.9), 0.9, "undetermined"),
        (FEW, PlaceReadings(0.65, 0.9, 0.9, by_chance=0.7), 0.9, "localized"),
        (FEW, PlaceReadings(0.8, 0.9, 0.9), 0.9, "diffuse"),
        (SOME, PlaceReadings(0.8, 0.9, 0.9), 0.9, "diffuse"),
        (SOME, PlaceReadings(0.7, 0.9, 0.9), 0.9, "undetermined"),
        (DIM, PlaceReadings(0.5, 0.5, 0.9), 0.9, "localized"),
        (DIM, PlaceReadings(0.5, 0.5, 0.7), 0.9, "undetermined"),
        (BACKGROUND, PlaceReadings(0.5, 0.5, 0.9), 0.9, "undetermined"),
        (BACKGROUND, PlaceReadings(0.5, 0.8, 0.9), 0.9, "localized"),
        (replace(BACKGROUND, dim=0.95), PlaceReadings(0.5, 0.5, 0.9), 0.9, "localized"),
        (replace(ORGAN, dim=0.95), PlaceReadings(0.5, 0.5, 0.9), 0.9, "undetermined"),
        (TOLD, PlaceReadings(0.5, 0.5, 0.9, loud_apart=False), 0.6, "localized"),
        (SMALL, PlaceReadings(0.8, 0.9, 0.9), 0.9, "undetermined"),
    ],
)
def test_what_the_places_say_decides_where_few_cells_are_lit(cells, places, encoded, verdict):
    assert decide(cells, {}, encoded, ExtentRule(), places)[0] == verdict


def test_the_participation_ratio_is_not_asked_where_the_picture_speaks():
    spread = {"present=1": 0.2, "present=0": 0.1}
    assert decide(FEW, spread, 0.9, ExtentRule(), PlaceReadings(0.5, 0.5, 0.9))[0] == "localized"
    assert decide(FEW, spread, 0.9, ExtentRule(), PlaceReadings(0.5, 0.5, 0.7))[0] == "undetermined"
