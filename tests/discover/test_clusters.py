import numpy as np
import pytest
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from shortcutscope.discover.clusters import cluster, eigengap, spectral_embedding
from shortcutscope.errors import InputError


def blobs(sizes, channels=40, distance=12.0, seed=0):
    generator = np.random.default_rng(seed)
    members = np.repeat(np.arange(len(sizes)), sizes)
    centres = generator.standard_normal((len(sizes), channels))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    order = generator.permutation(len(members))
    points = centres[members] + generator.standard_normal((len(members), channels))
    return points[order].astype(np.float32), members[order]


@pytest.mark.parametrize("sizes", [(300, 30), (150, 150, 40), (100, 100, 100, 60)])
def test_strategies_are_counted_and_found(sizes):
    points, members = blobs(sizes)
    found = cluster(points)
    assert found.count == len(sizes)
    assert adjusted_rand_score(members, found.spectral) > 0.95
    assert adjusted_rand_score(members, found.dense) > 0.9
    assert found.n_fitted == len(points)
    assert found.note == ""


def test_the_spectrum_is_that_of_the_dense_laplacian():
    points, _ = blobs((60, 40), distance=4.0)
    points = points.astype(float)
    nearest = np.argsort(cdist(points, points), axis=1)[:, 1:11]
    graph = np.zeros((100, 100))
    np.put_along_axis(graph, nearest, 1, axis=1)
    graph = np.maximum(graph, graph.T)
    scale = 1 / np.sqrt(graph.sum(1))
    expected = eigh(np.eye(100) - scale[:, None] * graph * scale, eigvals_only=True)[:6]
    values, vectors = spectral_embedding(points, 10, 5)
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert vectors.shape == (100, 6)


def test_the_eigengap_counts_at_least_two():
    assert eigengap(np.array([0, 0.01, 0.02, 0.6, 0.7])) == 3
    assert eigengap(np.array([0, 0.5, 0.9, 1.0])) == 2


def test_samples_beyond_the_limit_join_their_neighbours_and_the_result_says_so():
    points, members = blobs((600, 200))
    found = cluster(points, most_fitted=200)
    assert found.n_fitted == 200
    assert "200 of 800" in found.note
    assert len(found.spectral) == 800
    assert adjusted_rand_score(members, found.spectral) > 0.95


def test_clusters_are_deterministic():
    points, _ = blobs((120, 60), distance=3.0)
    np.testing.assert_array_equal(cluster(points, seed=1).spectral, cluster(points, seed=1).spectral)


def test_too_few_or_non_finite_samples_are_refused():
    with pytest.raises(InputError, match="at least 40"):
        cluster(np.zeros((39, 5)))
    points, _ = blobs((60, 60))
    points[3, 2] = np.nan
    with pytest.raises(InputError, match="not finite"):
        cluster(points)
