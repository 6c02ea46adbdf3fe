import numpy as np
import pytest
import torch

from shortcutscope.probes.cells import CELLS, cell_features, cell_map, chance_deviation, input_filters
from shortcutscope.probes.crossfit import make_folds
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
    assert mapped(corner).lit == pytest.approx(1 / 16, abs=0.06)
    assert mapped(np.ones((32, 32))).lit == 1
    assert mapped(np.zeros((32, 32))).lit < 0.1


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
    assert result.lit < 0.25


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
    assert result.lit < 0.1
