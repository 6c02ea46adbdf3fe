"""Outlier neurons of a layer: those that are relevant, or active, on other samples than all the rest.

A shortcut is anomalous beside the features of the task, and so can be the neurons that detect it. Two
profiles of a neuron say how it compares with the others of its layer. Of relevance (CRP, Achtibat et al.
2023): its relevance on every sample; neurons whose profiles have a cosine near one serve the same
decisions. Of activation (DORA, Bykov et al. 2023): what the layer does on the samples that the neuron is
most active on; two neurons are near if either is active where the other is (the extreme-activation
distance). In both, a neuron is an outlier as far as its neighbourhood is sparser than those of its
neighbours (local outlier factor, Breunig et al. 2000).

An outlier is something to look at and no evidence by itself: where a network has given most of a layer to a
shortcut, the neurons that are unlike the others are those of the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.neighbors import LocalOutlierFactor

from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Floats, Ints

Profile = Literal["relevance", "activation"]

#: Samples that a neuron is most active on.
TOP = 25
#: Neighbours of the local outlier factor: at most so many, at most this share of the neurons.
NEIGHBOURS, LARGEST_SHARE = 20, 0.33
#: Fewest neurons that one can be an outlier of.
FEWEST = 5
#: Neurons nearer than this count as equally near: beyond it, half precision tells nothing apart.
RESOLUTION = 1e-2
#: Rows held in double precision at a time, and columns sorted at a time.
BLOCK, COLUMNS = 4096, 128


@dataclass(frozen=True, eq=False)
class Neurons:
    """How unlike the others of its layer every neuron is.

    Attributes
    ----------
    layer
        Name of the layer.
    relevance_outlier, activation_outlier
        (C,) local outlier factor by either profile: about 1 for a neuron among its like, larger for an
        outlier; NaN for a neuron that is never active or never relevant. All NaN by relevance where the scan
        has none.
    relevance_distance, activation_distance
        (C, C) between the profiles, from 0 (the same) to 1 (opposite), float32; NaN for such neurons.
    note
        What could not be had, and why; else empty.
    """

    layer: str
    relevance_outlier: Floats
    activation_outlier: Floats
    relevance_distance: npt.NDArray[np.float32]
    activation_distance: npt.NDArray[np.float32]
    note: str = ""

    def ranked(self, by: Profile = "relevance") -> Ints:
        """Channels, the greatest outlier first; those without a profile last."""
        factor = np.nan_to_num(self.factor(by), nan=-np.inf)
        return np.argsort(-factor, kind="stable").astype(np.int64)

    def factor(self, by: Profile = "relevance") -> Floats:
        """`relevance_outlier` or `activation_outlier` (C,)."""
        return self.relevance_outlier if _checked(by) == "relevance" else self.activation_outlier

    def to_frame(self) -> pd.DataFrame:
        """One row per channel: its factors and its ranks, 1 for the greatest outlier."""
        frame = pd.DataFrame({"channel": np.arange(len(self.relevance_outlier))})
        for by in get_args(Profile):
            frame[f"{by}_outlier"] = self.factor(by)
            frame[f"{by}_rank"] = np.argsort(self.ranked(by)) + 1
        return frame


def profile_neurons(
    scan: Scan, layer: str | Layer, *, top: int = TOP, neighbours: int = NEIGHBOURS, stat: str = "mean"
) -> Neurons:
    """Compare the neurons of a layer by relevance and by activation.

    Parameters
    ----------
    scan
        Of the samples. Without relevances, the neurons are compared by activation alone.
    layer
        Name or layer.
    top
        Samples that a neuron is most active on.
    neighbours
        Of the local outlier factor; also limited to a third of the neurons, or none could be an outlier.
    stat
        Activation statistic of the activation profile.

    Raises
    ------
    InputError
        The layer has fewer than 5 neurons, or `top` or `neighbours` cannot be.
    """
    name, channels = scan.layer(layer).name, scan.layer(layer).channels
    if channels < FEWEST:
        raise InputError(f"layer {name!r} has {channels} neurons; at least {FEWEST} are needed")
    if not 1 <= top <= len(scan) or neighbours < 1:
        raise InputError(
            f"top={top}, neighbours={neighbours}; allowed are 1 to {len(scan)} samples and 1 or more"
        )
    by_activation = extreme_activation_distance(extreme_activations(scan.activation(name, stat), top))
    note = ""
    try:
        by_relevance = relevance_distance(scan.relevance(name))
    except InputError as error:
        by_relevance = np.full((channels, channels), np.nan, np.float32)
        note = f"neurons were not compared by relevance: {error}"
    return Neurons(
        layer=name,
        relevance_outlier=outlier_factor(by_relevance, neighbours),
        activation_outlier=outlier_factor(by_activation, neighbours),
        relevance_distance=by_relevance,
        activation_distance=by_activation,
        note=note,
    )


def neuron_scores(
    scan: Scan,
    layer: str | Layer,
    channels: npt.ArrayLike,
    by: Profile = "activation",
    stat: str = "",
) -> Floats:
    """Relevance or activation (N, k) of some neurons on every sample: a score for each neuron.

    Parameters
    ----------
    scan, layer, channels
        The neurons.
    by
        ``"relevance"`` or ``"activation"``.
    stat
        Statistic of the scan; ``"sum"`` for relevance and ``"max"`` for activation if empty.

    Raises
    ------
    InputError
        There is no such channel.
    """
    layer, indices = scan.layer(layer), np.asarray(channels)
    if indices.ndim != 1 or ((indices < 0) | (indices >= layer.channels)).any():
        raise InputError(
            f"channels {indices.tolist()} of layer {layer.name!r}; allowed are 0 to {layer.channels - 1}"
        )
    if _checked(by) == "relevance":
        return scan.relevance(layer, stat or "sum")[:, indices].astype(np.float64)
    return scan.activation(layer, stat or "max")[:, indices].astype(np.float64)


def outlier_scores(scan: Scan, neurons: Neurons, most: int = 5) -> Iterator[tuple[int, Floats]]:
    """Channel and activation (N,) of the greatest outliers by either profile, each channel once."""
    orders = [
        [c for c in neurons.ranked(by).tolist() if np.isfinite(neurons.factor(by)[c])]
        for by in get_args(Profile)
    ]
    alternating = chain.from_iterable(zip_longest(*orders))
    channels = [c for c in dict.fromkeys(alternating) if c is not None][:most]
    scores = neuron_scores(scan, neurons.layer, channels)
    yield from zip(channels, scores.T, strict=True)


def relevance_distance(relevance: Array) -> npt.NDArray[np.float32]:
    """Distances (C, C) of the neurons' relevance profiles, the columns of (N, C)."""
    relevance = np.asarray(relevance)
    products = np.zeros((relevance.shape[1],) * 2)
    for i in range(0, len(relevance), BLOCK):
        block = relevance[i : i + BLOCK].astype(np.float64)
        products += block.T @ block
    lengths = np.sqrt(np.diag(products))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = products / lengths / lengths[:, None]
    return _distance(cosine)


def extreme_activations(activation: Array, top: int = TOP) -> Floats:
    """What each neuron (columns) does on the samples that each neuron (rows) is most active on.

    Parameters
    ----------
    activation
        (N, C).
    top
        Samples of each row.

    Returns
    -------
    representations
        (C, C) mean activations in standard deviations from the neuron's mean; NaN for a neuron whose
        activation is always the same.
    """
    activation = np.asarray(activation)
    mean = activation.mean(axis=0, dtype=np.float64)
    starts = range(0, len(activation), BLOCK)
    squares = sum(((activation[i : i + BLOCK] - mean) ** 2).sum(axis=0) for i in starts)
    spread = np.sqrt(squares / len(activation))
    rows = np.empty((len(mean), len(mean)))
    for i in range(0, len(mean), COLUMNS):
        columns = activation[:, i : i + COLUMNS]
        highest = np.argpartition(-columns, top - 1, axis=0)[:top]
        for j in range(columns.shape[1]):
            rows[i + j] = activation[highest[:, j]].mean(axis=0, dtype=np.float64)
    # Rounding leaves a constant column with a tiny spread.
    silent = spread <= 1e-6 * np.abs(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        representations: Floats = (rows - mean) / spread
    representations[silent] = np.nan
    representations[:, silent] = np.nan
    return representations


def extreme_activation_distance(representations: Floats) -> npt.NDArray[np.float32]:
    """Extreme-activation distance (C, C) of neurons (Bykov et al. 2023).

    Of a pair, the representation of either neuron has two entries: the activations of both on the samples
    that the one is most active on. Their distance is that of the angle between the two.

    Parameters
    ----------
    representations
        (C, C), of :func:`extreme_activations`.
    """
    diagonal = np.diag(representations)
    # r_ij = (A_ii, A_ij) and r_ji = (A_ji, A_jj), for all pairs at once.
    inner = diagonal[:, None] * representations.T + representations * diagonal
    lengths = np.hypot(diagonal[:, None], representations)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine: Floats = inner / (lengths * lengths.T)
    return _distance(cosine)


def outlier_factor(distance: Array, neighbours: int = NEIGHBOURS) -> Floats:
    """Local outlier factor (C,) of neurons with these distances; NaN where they are unknown.

    Parameters
    ----------
    distance
        (C, C) symmetric; NaN in the rows and columns of neurons without a profile.
    neighbours
        At most so many; at most a third of the neurons that have a profile.
    """
    finite = np.isfinite(np.diag(distance))
    factor = np.full(len(distance), np.nan)
    if finite.sum() < FEWEST:
        return factor
    between = np.maximum(distance[np.ix_(finite, finite)], RESOLUTION).astype(np.float64)
    np.fill_diagonal(between, 0)
    count = max(1, min(neighbours, int(LARGEST_SHARE * finite.sum())))
    factors = LocalOutlierFactor(n_neighbors=count, metric="precomputed").fit(between)
    factor[finite] = -factors.negative_outlier_factor_
    return factor


def _distance(cosine: Floats) -> npt.NDArray[np.float32]:
    """Half the chord between unit vectors: 0 where they agree, 1 where they are opposite."""
    distance = np.sqrt(np.clip((1 - cosine) / 2, 0, 1)).astype(np.float32)
    np.fill_diagonal(distance, np.where(np.isfinite(np.diag(distance)), 0, np.nan))
    return distance


def _checked(by: str) -> str:
    if by not in get_args(Profile):
        raise InputError(f"by is {by!r}; allowed are 'relevance' and 'activation'")
    return by
