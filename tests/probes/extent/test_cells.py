import numpy as np
import pytest
import torch

from shortcutscope.probes.crossfit import cross_fitted_scores, make_folds
from shortcutscope.probes.extent.cells import (
    CELLS,
    CellMap,
    cell_features,
    cell_map,
    cell_scores,
    chance_deviation,
    empty_cells,
    input_filters,
    resampled_cells,
)
from shortcutscope.probes.extent.measuring import ExtentRule, decide
from shortcutscope.stats.metrics import within_class_auroc

N = 240
LABELS = np.arange(N) % 2
CONCEPT = (np.arange(N) // 2 % 2).astype(float)
FOLDS = make_folds(LABELS, np.arange(N), CONCEPT)


def images(lit, strength=3.0, seed=0):
    """Noise, with a brighter mean in the lit part of carriers."""
    x = np.random.default_rng(seed).standard_normal((N, 1, 32, 32)).astype(np.float32)
    x[:, 0] += strength * CONCEPT[:, None, None] * lit
    return torch.from_numpy(x)


def mapped(lit, concept=CONCEPT, **options):
    features = cell_features(input_filters(images(lit))).numpy()
    return cell_map(features, concept, LABELS, FOLDS, lit_above=0.6, **options)


def test_lit_share_is_the_share_of_the_image_that_carries_the_concept():
    corner = np.zeros((32, 32))
    corner[:8, :8] = 1
    assert mapped(corner).lit_share == pytest.approx(1 / 16, abs=0.06)
    assert mapped(np.ones((32, 32))).lit_share == 1
    assert mapped(np.zeros((32, 32))).lit_share < 0.1


def test_the_map_does_not_depend_on_which_value_is_called_present():
    lit = np.zeros((32, 32))
    lit[10:20] = 1
    np.testing.assert_allclose(mapped(lit).auroc, mapped(lit, 1 - CONCEPT).auroc, atol=1e-9)


def test_a_concept_that_only_follows_the_label_lights_nothing():
    x = images(np.zeros((32, 32)))
    x[LABELS == 1] += 3
    rng = np.random.default_rng(1)
    follows = np.where(rng.random(N) < 0.9, LABELS, 1 - LABELS).astype(float)
    folds = make_folds(LABELS, np.arange(N), follows)
    result = cell_map(cell_features(input_filters(x)).numpy(), follows, LABELS, folds, lit_above=0.6)
    assert np.median(result.auroc) < 0.56
    assert result.lit_share < 0.25


def test_interval_holds_the_estimate_and_narrows_with_certainty():
    weights = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N), 100).astype(float)
    result = mapped(np.ones((32, 32)), weights=weights)
    assert result.interval == (1.0, 1.0)


@pytest.mark.parametrize("shape", [(2, 3, 100), (2, 1, 40, 24), (2, 1, 12, 14, 16)])
def test_signals_images_and_volumes_have_cells(shape):
    x = torch.rand(shape)
    cells = cell_features(input_filters(x))
    assert cells.shape[2:] == tuple(min(c, s) for c, s in zip(CELLS[x.ndim - 2], x.shape[2:], strict=True))


def test_many_channels_are_projected_the_same_way_every_time():
    x = torch.rand(3, 200, 8, 8)
    assert cell_features(x).shape == (3, 64, 8, 8)
    torch.testing.assert_close(cell_features(x[:1]), cell_features(x)[:1])


def test_chance_deviation_is_that_of_random_scores():
    concept = np.r_[np.ones(10), np.zeros(N - 10)]
    labels = np.arange(N) % 2
    scores = np.random.default_rng(0).standard_normal((N, 4000))
    spread = np.std(within_class_auroc(concept, scores, labels))
    assert chance_deviation(concept, labels) == pytest.approx(spread, rel=0.05)


def test_with_few_carriers_a_cell_must_be_brighter_to_count():
    concept = np.zeros(N)
    concept[:10] = 1
    folds = make_folds(LABELS, np.arange(N), concept)
    features = np.random.default_rng(0).standard_normal((N, 4, 16, 16))
    result = cell_map(features, concept, LABELS, folds, lit_above=0.6)
    assert (result.auroc >= 0.6).mean() > 0.1
    assert result.lit_share < 0.1


def on_black(change, radius=0.42, side=64, seed=0):
    """Textured discs that move a little on an empty background; `change` is made to carriers."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side - 0.5
    images = []
    for carrier in CONCEPT:
        down, right = rng.uniform(-0.04, 0.04, 2)
        inside = np.hypot(y - down, x - right) < radius
        image = np.where(inside, 0.5 + 0.1 * rng.standard_normal((side, side)), 0.0)
        images.append(change(image, y, x, rng) if carrier else image)
    # As a network gets them: the background is a constant, and not 0.
    return (torch.from_numpy(np.stack(images)[:, None]).float() - 0.45) / 0.25


def verdict_on(images, encoded=0.95):
    weights = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N), 40).astype(float)
    features = cell_features(input_filters(images)).numpy()
    cells = cell_map(features, CONCEPT, LABELS, FOLDS, lit_above=0.6, weights=weights)
    return cells, *decide(cells, {}, encoded, ExtentRule())


def vignette(image, y, x, rng):
    return image * (1 - rng.uniform(0.8, 1.2) * (y**2 + x**2))


def bias_field(image, y, x, rng):
    return image * (1 + rng.uniform(0.3, 0.45) * 2 * x)


def tag(image, y, x, rng):
    return np.where((abs(y + 0.42) < 0.04) & (abs(x + 0.42) < 0.06), 0.9, image)


@pytest.mark.parametrize("change", [vignette, bias_field])
def test_s3_a_change_of_what_is_not_empty_is_diffuse(change):
    cells, verdict, reason = verdict_on(on_black(change))
    assert 26 < cells.counted < 256
    assert verdict == "diffuse"
    assert f"{cells.counted} cells of the image that are not empty" in reason


@pytest.mark.parametrize("change", [vignette, bias_field])
@pytest.mark.parametrize("radius", [0.1, 0.25])
def test_s3_on_little_content_it_is_never_localized(change, radius):
    _, verdict, _ = verdict_on(on_black(change, radius))
    assert verdict == "undetermined"


def test_s3_what_is_written_on_the_empty_background_is_localized():
    cells, verdict, _ = verdict_on(on_black(tag))
    assert verdict == "localized"
    assert 0 < cells.lit_share < 0.1


def test_s3_an_empty_cell_is_one_in_which_samples_do_not_differ():
    features = np.random.default_rng(0).standard_normal((N, 3, 4)).astype(np.float32)
    features[:, :, 1] = 2.5
    features[5:, :, 2] = -1.0
    features[: N // 4, :, 3] = 0.5
    empty = empty_cells(features.transpose(2, 0, 1)).T
    assert empty.all(0).tolist() == [False, True, False, False]
    assert empty[5:, 2].all()
    assert not empty[:5, 2].any()
    assert empty[:, 3].tolist() == [True] * (N // 4) + [False] * (N - N // 4)
    assert not empty[:, 0].any()


def test_s8_no_lit_cell_is_not_told_as_a_share():
    cells = CellMap(np.full((16, 16), 0.52), 0.0, (0.0, 0.02))
    verdict, reason = decide(cells, {}, 0.95, ExtentRule())
    assert verdict == "localized"
    assert reason.startswith("none of the image's cells tells the concept by itself")


def test_s3_what_is_readable_in_dark_cells_is_not_localized():
    """A vignette lights the rim of an organ, and is weaker, but there, in its middle."""
    values = np.full((16, 16), 0.53)
    values[:5] = np.nan
    values[5:7] = 0.8
    told = {dim: CellMap(values, 0.2, (0.1, 0.3), dim, has_empty=True) for dim in (True, False)}
    assert decide(told[True], {}, 0.95, ExtentRule())[0] == "undetermined"
    assert decide(told[False], {}, 0.95, ExtentRule())[0] == "localized"
    faint = verdict_on(on_black(lambda image, y, x, rng: image * (1 - 1.5 * (y**2 + x**2) ** 2)))
    assert faint[1] != "localized"
    assert verdict_on(on_black(tag))[0].dim < 0.9


@pytest.mark.parametrize("n", [480, 40])
def test_all_cells_at_once_score_as_one_after_the_other(n):
    rng = np.random.default_rng(n)
    features = rng.standard_normal((n, 12, 20)).astype(np.float32)
    features[..., 3], features[:, 0, 7] = 0, 5
    features[..., 9] += 1000
    labels, folds = rng.integers(0, 3, n), np.arange(n) % 4
    concept = (rng.random(n) < 0.3 + 0.2 * labels).astype(float)
    labels[(labels == 2) & (folds != 1)] = 0  # a class that one fold alone has
    slow = [cross_fitted_scores(features[..., c], concept, labels, folds, centre=True) for c in range(20)]
    for kind, tolerance in ((np.float64, 1e-10), (np.float32, 1e-4)):
        scores = cell_scores(features.transpose(2, 0, 1).astype(kind), concept, labels, folds)
        np.testing.assert_allclose(scores, slow, atol=tolerance)


def test_resampled_areas_are_those_of_each_column():
    rng = np.random.default_rng(1)
    labels, weights = rng.integers(0, 3, 90), rng.integers(0, 4, (30, 90)).astype(float)
    concept = (rng.random(90) < 0.4).astype(float)
    concept[labels == 2], weights[3] = 0, 0
    scores = rng.standard_normal((12, 90)).round(1)
    slow = [within_class_auroc(concept, column, labels, weights) for column in scores]
    np.testing.assert_allclose(resampled_cells(concept, scores, labels, weights), slow, atol=1e-12)
    np.testing.assert_allclose(resampled_cells(concept, scores, labels, weights * 1000), slow, atol=1e-12)
