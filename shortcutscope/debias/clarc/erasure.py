"""LEACE at every layer: the smallest change after which no linear probe can tell the concept.

Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form", theorem 4.2:
``r(x) = x - W^+ Q Q^+ W (x - E x)`` with ``W = cov(x)^(-1/2)`` and ``Q = W cov(x, z)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.debias.clarc.activations import (
    ConceptSamples,
    concept_samples,
    over_activations,
    parts_of,
    select_layers,
)
from shortcutscope.debias.clarc.correction import fitted_in_turn
from shortcutscope.debias.clarc.projection import Edit, Erasure
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.models.layers import Layer
from shortcutscope.probes.alive import ROUNDING
from shortcutscope.types import Floats, Ints

On = Literal["positions", "pooled"]

#: Directions with a smaller share of the largest variance are not whitened: they are rounding.
RANK_TOLERANCE = 1e-10


@dataclass
class Moments:
    """Sums over activations, gathered batch after batch.

    Attributes
    ----------
    count
        Number of activation vectors.
    sums
        (C,).
    products
        (C, C) sum of x x'.
    concept_sums
        (K,) sum of z.
    cross
        (C, K) sum of x z'.
    """

    count: float
    sums: Floats
    products: Floats
    concept_sums: Floats
    cross: Floats

    @classmethod
    def empty(cls, channels: int, concepts: int) -> Moments:
        """No samples yet."""
        return cls(
            0.0,
            np.zeros(channels),
            np.zeros((channels, channels)),
            np.zeros(concepts),
            np.zeros((channels, concepts)),
        )

    def add(self, x: Floats, z: Floats) -> None:
        """Take in vectors (n, C) with concepts (n, K)."""
        self.count += len(x)
        self.sums += x.sum(axis=0)
        self.products += x.T @ x
        self.concept_sums += z.sum(axis=0)
        self.cross += x.T @ z

    @property
    def mean(self) -> Floats:
        """(C,)."""
        return self.sums / self.count

    @property
    def rounding(self) -> float:
        """Variance that activations of this size have from rounding alone."""
        return float(ROUNDING**2 * np.diagonal(self.products).max() / self.count)

    def covariances(self) -> tuple[Floats, Floats]:
        """cov(x) (C, C) and cov(x, z) (C, K)."""
        covariance = self.products / self.count - np.outer(self.mean, self.mean)
        cross = self.cross / self.count - np.outer(self.mean, self.concept_sums / self.count)
        return (covariance + covariance.T) / 2, cross


def leace_map(covariance: Floats, cross: Floats, rounding: float = 0.0) -> tuple[Floats, Floats]:
    """The eraser's factors ``left`` (C, K) and ``right`` (K, C): ``r(x) = x - left right (x - E x)``.

    Parameters
    ----------
    covariance
        (C, C), of any rank.
    cross
        (C, K) cov(x, z).
    rounding
        Directions of no larger variance are not whitened either, see `Moments.rounding`.
    """
    values, vectors = np.linalg.eigh(covariance)
    alive = values > max(RANK_TOLERANCE * float(values[-1]), rounding)
    basis, spread = vectors[:, alive], np.sqrt(values[alive])
    # In coordinates of the eigenvectors, where whitening is a division.
    whitened = (basis.T @ cross) / spread[:, None]
    singular, strengths, _ = np.linalg.svd(whitened, full_matrices=False)
    singular = singular[:, strengths > 1e-9 * max(float(strengths.max(initial=0.0)), 1e-300)]
    return basis @ (spread[:, None] * singular), (basis / spread @ singular).T


def concept_columns(samples: ConceptSamples, conditional: bool) -> Floats:
    """The matrix z (M, K): the concept, or for each class its deviation from its mean in that class.

    cov(x, z) of the second is P(class) cov(x, concept | class): erasing all of it leaves nothing of the
    concept inside any class, and what goes with the class alone stays.
    """
    if not conditional:
        return samples.concept[:, None]
    columns = []
    for label in np.unique(samples.labels):
        member = samples.labels == label
        deviation = np.where(member, samples.concept - samples.concept[member].mean(), 0.0)
        if deviation.any():
            columns.append(deviation)
    return np.stack(columns, axis=1)


def leace(
    problem: DebiasProblem,
    *,
    layers: str | Sequence[str] | None = None,
    conditional: bool = True,
    on: On = "positions",
) -> Outcome:
    """Erase the concept linearly from layers, without training.

    The affine map is applied at every position; several layers are erased one after the other.

    Parameters
    ----------
    problem
        With `carries`.
    layers
        Where; by default those of `problem`, else the last that tells positions apart.
    conditional
        Inside every class, so that the label survives where it goes with the concept. False is plain LEACE,
        which takes along whatever of the label tells the concept.
    on
        Whether means and covariances are those of single positions, or of activations pooled over them.
        Pooled activations have no covariance with the concept afterwards in either case.

    Raises
    ------
    InputError
        The concept is not known; with `conditional`, no class holds it and its absence; no such layer.
    """
    samples = concept_samples(problem, "leace", within_classes=conditional)
    edit_layers = select_layers(problem, layers)
    z = concept_columns(samples, conditional)

    def edits(model: nn.Module, layer: Layer) -> list[Edit]:
        erasures: list[Edit] = []
        for moments in _moments(model, problem, samples.rows, z, layer, on):
            left, right = leace_map(*moments.covariances(), moments.rounding)
            erasures.append(Erasure(*(torch.from_numpy(part) for part in (left, right, moments.mean))))
        return erasures

    wrapper = fitted_in_turn(problem.model, edit_layers, edits)
    notes = (
        *samples.notes,
        f"erased at {', '.join(layer.name for layer in edit_layers)}, without training; the model's weights "
        "are untouched",
        "erased inside every class"
        if conditional
        else "erased regardless of the class, so that what the label shares with the concept is erased, too",
    )
    return Outcome(wrapper.eval(), notes=notes)


def _moments(
    model: nn.Module, problem: DebiasProblem, rows: Ints, z: Floats, layer: Layer, on: On
) -> list[Moments]:
    parts = parts_of(layer)
    moments = [Moments.empty(layer.channels, z.shape[1]) for _ in parts]

    def gather(batch: slice, values: Tensor) -> None:
        for moment, part in zip(moments, parts, strict=True):
            x = values[..., part].double()
            x = x.mean(2, keepdim=True) if on == "pooled" else x
            flat = x.transpose(1, 2).flatten(0, 1).cpu().numpy()
            moment.add(flat, np.repeat(z[batch], x.shape[2], axis=0))

    over_activations(
        model,
        problem.train,
        rows,
        layer,
        gather,
        batch_size=problem.training.batch_size,
        progress=problem.progress,
    )
    return moments
