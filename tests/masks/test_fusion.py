"""Fusion: weights by what maps tell, the weighted geometric mean, regions."""

import numpy as np
import pytest

from shortcutscope.masks.fusion import EVEN, fused, map_weights, region_of


def test_the_geometric_mean_of_relative_maps():
    generator = np.random.default_rng(0)
    maps = {name: generator.random((2, 8, 8)).astype(np.float32) for name in "ab"}
    weights = {"a": 1.0, "b": 3.0}
    found = fused(maps, weights)
    for k in range(2):
        relative = {}
        for name, values in maps.items():
            above = np.maximum(values[k] - np.median(values[k]), 0)
            relative[name] = above / above.max() + EVEN
        np.testing.assert_allclose(found[k], (relative["a"] * relative["b"] ** 3) ** 0.25, rtol=1e-4)


def test_a_map_that_tells_nothing_is_left_out():
    generator = np.random.default_rng(0)
    concept, labels = np.repeat([0.0, 1.0], 100), np.tile([0, 1], 100)
    peaks = {"good": concept + 0.1 * generator.random(200), "noise": generator.random(200)}
    weights = map_weights(peaks, concept, labels)
    assert weights["good"] == pytest.approx(1)
    assert weights["noise"] == 0
    maps = {name: generator.random((1, 6, 6)).astype(np.float32) for name in peaks}
    np.testing.assert_array_equal(fused(maps, weights), fused({"good": maps["good"]}, weights))


def test_a_region_is_wider_for_a_smaller_share():
    values = np.exp(-((np.arange(32) - 16.0) ** 2)[:, None] / 30 - ((np.arange(32) - 16.0) ** 2) / 30)
    wide, narrow = region_of(values, 0.5), region_of(values, 1.0)
    assert narrow[16, 16]
    assert (wide | narrow == wide).all()
    assert wide.sum() > narrow.sum()
