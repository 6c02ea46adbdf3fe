"""Samples laid out in a plane by what a layer says of them: for the eye alone.

UMAP (McInnes et al. 2018) keeps neighbours together and says nothing by distances, sizes or empty space, so
that nothing is decided here: clusters are found and tested elsewhere.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.decomposition import PCA

from shortcutscope.errors import InputError
from shortcutscope.types import Array, Floats, Ints

#: Principal components that neighbours are looked for in.
PRINCIPAL = 32
#: Samples laid out; of more, a draw.
MOST = 5_000
FEWEST = 16


def embed(vectors: Array, *, most: int = MOST, seed: int = 0) -> tuple[Ints, Floats]:
    """Lay out samples in a plane.

    Parameters
    ----------
    vectors
        (N, C) relevances or activations of a layer.
    most
        Most samples; of more, so many are drawn.
    seed
        Of the draw and the layout.

    Returns
    -------
    rows : ndarray
        (n,) which samples.
    points : ndarray
        (n, 2)

    Raises
    ------
    InputError
        For fewer than 16 samples, or values that are not finite.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or len(vectors) < FEWEST:
        raise InputError(f"vectors of shape {vectors.shape}: at least {FEWEST} samples (N, C) are needed")
    rows = np.arange(len(vectors), dtype=np.int64)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    features = vectors[rows].astype(np.float64)
    if not np.isfinite(features).all():
        raise InputError("the vectors hold values that are not finite")
    features = PCA(min(PRINCIPAL, *features.shape), random_state=seed).fit_transform(features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's and umap's own affairs
        from umap import UMAP

        layout = UMAP(n_neighbors=min(15, len(rows) - 1), random_state=seed, n_jobs=1)
        points: Floats = np.asarray(layout.fit_transform(features), np.float64)
    return rows, points
