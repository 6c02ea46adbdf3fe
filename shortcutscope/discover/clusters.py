"""Clusters of what a model looks at: spectral relevance analysis, per class and layer.

SpRAy (Lapuschkin et al. 2019): samples of one class whose relevances are alike are classified by one
strategy; a nearest-neighbour graph of them falls into as many parts as there are strategies, which the
spectrum of its Laplacian counts and its eigenvectors show. The graph is sparse and made in blocks, so that no
matrix of samples x samples is ever held. HDBSCAN (Campello et al. 2013) on the same embedding finds dense
clusters and leaves the rest out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, laplacian
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier, kneighbors_graph

from shortcutscope.errors import InputError
from shortcutscope.types import Array, Floats, Ints

NEIGHBOURS = 10
#: Principal components in which neighbours are looked for.
PRINCIPAL = 32
#: Most clusters that the eigengap may choose.
MOST_CLUSTERS = 8
#: Samples that are clustered; further ones join the clusters of their neighbours.
MOST_FITTED = 10_000
#: Smallest dense cluster: this share of the samples, but not fewer than that many.
DENSE_SHARE, DENSE_FEWEST = 0.01, 8
#: Rows projected at a time.
BLOCK = 8192


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of samples.

    Attributes
    ----------
    spectral
        (N,) cluster of each sample, 0 to K - 1; the eigengap chose K.
    dense
        (N,) HDBSCAN's cluster of each sample, -1 for none.
    eigenvalues
        Smallest eigenvalues of the normalised Laplacian, ascending.
    embedding
        (n_fitted, K) of the samples that were clustered.
    n_fitted
        How many samples were clustered.
    note
        What a reader must know of how the clusters were made; empty if all samples were clustered.
    """

    spectral: Ints
    dense: Ints
    eigenvalues: Floats
    embedding: Floats
    n_fitted: int
    note: str

    @property
    def count(self) -> int:
        """Number of spectral clusters."""
        return int(self.spectral.max()) + 1


def cluster(
    vectors: Array,
    *,
    neighbours: int = NEIGHBOURS,
    most_clusters: int = MOST_CLUSTERS,
    most_fitted: int = MOST_FITTED,
    seed: int = 0,
) -> Clusters:
    """Cluster samples by spectral embedding of their nearest-neighbour graph.

    Parameters
    ----------
    vectors
        (N, C) relevances or activations of the samples of one class at one layer.
    neighbours
        Of each sample in the graph.
    most_clusters
        Largest number that the eigengap may choose.
    most_fitted
        Samples beyond this many are not in the graph: they join the clusters of their nearest neighbours
        in it.
    seed
        Of the principal components, the draw of samples, the eigensolver's start and k-means.

    Raises
    ------
    InputError
        For fewer than 4 samples per neighbour, or values that are not finite.
    """
    vectors = np.asarray(vectors)
    n = len(vectors)
    if vectors.ndim != 2 or n < 4 * neighbours:
        raise InputError(
            f"vectors of shape {vectors.shape} cannot be clustered with {neighbours} neighbours; at least "
            f"{4 * neighbours} samples (N, C) are needed"
        )
    rows = np.arange(n)
    if n > most_fitted:
        rows = np.sort(np.random.default_rng(seed).choice(n, most_fitted, replace=False))
    points = _principal(vectors, rows, seed)
    values, embedded = spectral_embedding(points[rows], neighbours, most_clusters, seed)
    count = eigengap(values)
    directions = embedded[:, :count]
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    unit = directions / np.where(lengths > 0, lengths, 1)  # Ng, Jordan and Weiss (2001)
    spectral = KMeans(count, n_init=5, random_state=seed).fit_predict(unit)
    smallest = max(DENSE_FEWEST, int(DENSE_SHARE * len(rows)))
    dense = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(unit)
    note = ""
    if n > len(rows):
        note = (
            f"{len(rows)} of {n} samples were clustered, drawn at random; each of the others joined the "
            "cluster of most of its nearest neighbours among them"
        )
        spectral, dense = (_joined(points, rows, assignment, neighbours) for assignment in (spectral, dense))
    return Clusters(spectral.astype(np.int64), dense.astype(np.int64), values, unit, len(rows), note)


def spectral_embedding(points: Floats, neighbours: int, count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Smallest eigenvalues (count + 1,) of the graph's normalised Laplacian, and its eigenvectors.

    Parameters
    ----------
    points
        (n, D); edges join each to its nearest neighbours, in either direction.
    """
    directed = csr_array(kneighbors_graph(points, neighbours, mode="connectivity", include_self=False))
    graph = directed.maximum(directed.T)
    part = connected_components(graph, directed=False)[1].astype(np.int64)
    root = np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    largest = np.argsort(-np.bincount(part, root**2), kind="stable")[: count + 1]
    null = root[:, None] * (part[:, None] == largest)
    null = null / np.linalg.norm(null, axis=0)
    rest = count + 1 - len(largest)
    if not rest:
        return np.zeros(count + 1), null
    values, vectors = _beyond_the_parts(graph, part, root, rest, seed)
    return np.concatenate([np.zeros(len(largest)), values]), np.concatenate([null, vectors], axis=1)


def _beyond_the_parts(graph: Any, part: Ints, root: Floats, count: int, seed: int) -> tuple[Floats, Floats]:
    """Smallest eigenvalues above zero, and their eigenvectors.

    The smallest eigenvalues of L are the largest of 2 - L, which Lanczos finds without a solve. A graph in
    several parts has the eigenvalue zero once a part, and Lanczos from a single start misses repetitions; but
    those eigenvectors are known (the root of the degree on each part), and are taken out.
    """
    normalised: Any = laplacian(graph, normed=True)
    sizes = np.bincount(part, root**2)

    def multiply(vector: Floats) -> Floats:
        vector = np.asarray(vector).ravel()
        along = root * (np.bincount(part, root * vector) / sizes)[part]
        return np.asarray(2 * (vector - along) - normalised @ vector)

    n = len(root)
    start = np.random.default_rng(seed).standard_normal(n)
    operator = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
    eigen: Any = eigsh(operator, k=count, which="LA", v0=start, tol=1e-4)
    order = np.argsort(-eigen[0])
    return np.maximum(2 - eigen[0][order], 0), eigen[1][:, order]


def eigengap(eigenvalues: Floats) -> int:
    """Number of clusters, at least 2: where the ascending spectrum leaps most (von Luxburg 2007)."""
    gaps = np.diff(eigenvalues)[1:]
    return 2 + int(np.argmax(gaps)) if len(gaps) else 2


def _principal(vectors: Array, rows: Ints, seed: int) -> Floats:
    """Principal component scores (N, D) float64, fitted on some rows, projected block by block."""
    block = vectors[rows]
    if not np.isfinite(block).all():
        raise InputError("the vectors to cluster hold values that are not finite")
    size = min(PRINCIPAL, *block.shape)
    solver = "randomized" if min(block.shape) > 2 * PRINCIPAL else "full"
    pca = PCA(size, svd_solver=solver, random_state=seed).fit(block)
    blocks = [pca.transform(vectors[i : i + BLOCK]) for i in range(0, len(vectors), BLOCK)]
    return np.concatenate(blocks).astype(np.float64)


def _joined(points: Floats, rows: Ints, assignment: Ints, neighbours: int) -> Ints:
    nearest = KNeighborsClassifier(neighbours).fit(points[rows], assignment)
    blocks = [nearest.predict(points[i : i + BLOCK]) for i in range(0, len(points), BLOCK)]
    joined = np.concatenate(blocks).astype(np.int64)
    joined[rows] = assignment
    return joined
