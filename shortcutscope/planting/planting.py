"""Plant a known artifact in a table, with its exact mask and its clean twin, as the truth to test against.

Every draw is seeded by the artifact's name, the sample's id and the seed alone: a sample gets the same
artifact in every subset, order, worker process and run, and no global generator is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shortcutscope.data.sources import ImageSource, as_array
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.artifacts.artifact import Artifact, Extent, generator_for
from shortcutscope.types import Array

__all__ = [
    "Artifact",
    "Extent",
    "PlantedSource",
    "Planting",
    "artifact_mask",
    "clean_twin",
    "everywhere",
    "plant",
    "plant_in",
    "triad",
]


@dataclass(frozen=True)
class Planting:
    """One artifact in the images of a source.

    Attributes
    ----------
    column
        The table's column that says which samples carry it.
    artifact, seed
        What is drawn.
    carriers
        Sample id per source image that carries it.
    """

    column: str
    artifact: Artifact
    seed: int
    carriers: Mapping[int, str] = field(repr=False)

    def apply(self, image: Array, i: int, value_range: tuple[float, float]) -> tuple[Array, Array]:
        """Image `i` with the artifact if it is a carrier, and the artifact's mask."""
        if i not in self.carriers:
            return image, np.zeros(image.shape[-2:], bool)
        return self.artifact.apply(image, sample_id=self.carriers[i], seed=self.seed, value_range=value_range)

    def identity(self, i: int) -> str:
        """What it does to image `i`, as text; empty where it does nothing."""
        if i not in self.carriers:
            return ""
        draw = self.artifact.draw
        name = getattr(draw, "__qualname__", type(draw).__qualname__)
        how = (self.artifact.name, self.artifact.strength, draw.__module__, name, self.seed, self.carriers[i])
        return f"|planted {how}"


@dataclass(frozen=True, eq=False)
class PlantedSource:
    """A source with artifacts drawn over its images as they are read; the base is kept as it is.

    Attributes
    ----------
    base
        The clean images.
    plantings
        Drawn one after the other, so that later ones lie on top.
    value_range
        That of the table.
    """

    base: ImageSource
    plantings: tuple[Planting, ...]
    value_range: tuple[float, float]

    def __len__(self) -> int:
        return len(self.base)

    def origin(self, i: int) -> tuple[ImageSource, int]:
        """The clean image."""
        return self.base, i

    def over(self, change: Callable[[ImageSource], ImageSource]) -> PlantedSource:
        """The same artifacts over changed images."""
        return replace(self, base=change(self.base))

    def read(self, i: int) -> Array:
        """Image `i` with its artifacts, in the stored type."""
        return self.read_layers(i)[0]

    def read_layers(self, i: int) -> tuple[Array, dict[str, Array]]:
        """Image `i`, and per column the mask of its artifact."""
        image = as_array(self.base.read(i))
        masks = {}
        for planting in self.plantings:
            image, masks[planting.column] = planting.apply(image, i, self.value_range)
        return image, masks

    def identity(self, i: int) -> str:
        """The base image's identity, followed by what is drawn over it; that of the base where nothing is."""
        return self.base.identity(i) + "".join(planting.identity(i) for planting in self.plantings)


def plant(
    table: ImageTable,
    artifact: Artifact | str,
    *,
    correlation: float = 0.95,
    prevalence: Mapping[int, float] | None = None,
    positive: int = 1,
    column: str | None = None,
    seed: int = 0,
) -> ImageTable:
    """Plant an artifact in a share of each class.

    Parameters
    ----------
    table
        Any table of two-dimensional images, for an artifact of signals one of signals; also with other
        artifacts planted.
    artifact
        What is planted: a name of the catalogue, or see
        :func:`shortcutscope.planting.artifacts.get_artifact`.
    correlation
        r from .5 (unrelated to the label) to 1: of the class `positive` the share r carries the artifact,
        of every other class the share 1 - r.
    prevalence
        Share of carriers of the labels given here, instead of what follows from `correlation`.
    positive
        The class that the artifact stands for.
    column
        Name of the 0/1 column that says which samples carry the artifact; default: the artifact's name.
    seed
        Chooses the carriers, of which there are exactly ``round(share * n)`` per class, and what is drawn.

    Returns
    -------
    table
        Same samples, with the column.

    Raises
    ------
    InputError
        An existing column, a share out of range, a label without samples, a table that lists an image
        twice, or one of signals for an artifact of images and the other way round.
    """
    if not 0.5 <= correlation <= 1:
        raise InputError(
            f"correlation is {correlation}; allowed are .5 (unrelated) to 1. For carriers that are mostly of "
            "the other class give prevalence={label: share}, or another positive class"
        )
    artifact = _artifact(artifact)
    shares = _shares(table, correlation, prevalence or {}, positive)
    column = column or artifact.name
    labels = table.frame["label"].to_numpy()
    carries = np.zeros(len(table), np.int64)
    for label, share in shares.items():
        class_rows = np.flatnonzero(labels == label)
        order = generator_for("carriers", f"{column} {label}", seed).permutation(class_rows)
        carries[order[: round(share * len(class_rows))]] = 1
    return plant_in(table, artifact, carries, column=column, seed=seed)


def plant_in(
    table: ImageTable,
    artifact: Artifact | str,
    carries: npt.ArrayLike,
    *,
    column: str | None = None,
    seed: int = 0,
) -> ImageTable:
    """Plant an artifact in given samples, also of several labels.

    Parameters
    ----------
    carries
        (N,) 1 or True for the samples that carry it.
    table, artifact, column, seed
        As in :func:`plant`.
    """
    artifact = _artifact(artifact)
    carries = np.asarray(carries).astype(np.int64)
    column = _new_column(table, column or artifact.name)
    planting = Planting(column, artifact, seed, _carriers(table, carries))
    # Volumes, small images and a wrong value range should fail here, not in the middle of a training.
    first = as_array(table.source.read(int(table.rows[0])))
    _assert_same_kind(artifact, first)
    artifact.apply(first, sample_id="", value_range=table.value_range)
    return _with_plantings(table, (*_plantings(table), planting)).with_columns(**{column: carries})


def _artifact(given: Artifact | str) -> Artifact:
    return get_artifact(given) if isinstance(given, str) else given


def clean_twin(table: ImageTable, column: str | None = None) -> ImageTable:
    """The same samples without an artifact; its column says 0 for all.

    Parameters
    ----------
    table
        A table from :func:`plant`, or one taken from it.
    column
        The artifact's column; None removes all artifacts.

    Raises
    ------
    InputError
        When nothing, or nothing under that name, was planted.
    """
    removed = [p.column for p in _planted(table, column)]
    remaining = tuple(p for p in _plantings(table) if p.column not in removed)
    zeros = {name: np.zeros(len(table), np.int64) for name in removed}
    return _with_plantings(table, remaining).with_columns(**zeros)


def everywhere(table: ImageTable, column: str) -> ImageTable:
    """The same samples, all with the artifact; carriers keep theirs, and the column says 1 for all.

    Raises
    ------
    InputError
        When nothing was planted under that name.
    """
    (planting,) = _planted(table, column)
    ones = np.ones(len(table), np.int64)
    full = replace(planting, carriers=_carriers(table, ones))
    plantings = tuple(full if p is planting else p for p in _plantings(table))
    return _with_plantings(table, plantings).with_columns(**{column: ones})


def artifact_mask(table: ImageTable, i: int, column: str | None = None) -> Tensor:
    """Exactly the pixels of sample `i` that an artifact visibly changed, bool (H, W), of a signal (C, L).

    Parameters
    ----------
    table
        A table from :func:`plant`, or one taken from it.
    i
        Row of the table.
    column
        The artifact's column; None unites all artifacts. A sample that carries none has an empty mask.

    Raises
    ------
    InputError
        When nothing, or nothing under that name, was planted.
    """
    columns = {p.column for p in _planted(table, column)}
    source = table.source
    assert isinstance(source, PlantedSource)
    _, masks = source.read_layers(int(table.rows[i]))
    return torch.from_numpy(np.logical_or.reduce([masks[name] for name in sorted(columns)]))


def triad(
    table: ImageTable,
    artifact: Artifact | str,
    *,
    correlation: float = 0.95,
    positive: int = 1,
    column: str | None = None,
    seed: int = 0,
) -> dict[str, ImageTable]:
    """The three test sets that go with a planted training set.

    Parameters
    ----------
    table, artifact, correlation, positive, column, seed
        As in :func:`plant`.

    Returns
    -------
    tables
        ``"correlated"`` as in training, ``"balanced"`` with the artifact in half of every class, and
        ``"inverted"`` with the shares of `positive` and the others exchanged.

    Raises
    ------
    InputError
        As :func:`plant`.
    """
    _shares(table, correlation, {}, positive)
    labels = [int(label) for label in np.unique(table.frame["label"])]
    inverted = {label: 1 - correlation if label == positive else correlation for label in labels}
    with_artifact = partial(plant, table, artifact, positive=positive, column=column, seed=seed)
    return {
        "correlated": with_artifact(correlation=correlation),
        "balanced": with_artifact(correlation=0.5),
        "inverted": with_artifact(prevalence=inverted),
    }


def _shares(
    table: ImageTable, correlation: float, prevalence: Mapping[int, float], positive: int
) -> dict[int, float]:
    """Share of carriers per label of the table."""
    labels = {int(label) for label in np.unique(table.frame["label"])}
    absent = sorted({positive, *prevalence} - labels)
    if absent:
        raise InputError(
            f"label(s) {', '.join(map(str, absent))} have no samples; the table's labels are "
            f"{', '.join(map(str, sorted(labels)))}"
        )
    wrong = {label: share for label, share in prevalence.items() if not 0 <= share <= 1}
    if wrong:
        raise InputError(f"prevalence {wrong} is out of range; allowed are shares from 0 to 1")
    shares = {label: correlation if label == positive else 1 - correlation for label in sorted(labels)}
    return {**shares, **{int(label): float(share) for label, share in prevalence.items()}}


def _assert_same_kind(artifact: Artifact, image: Array) -> None:
    """Refuse an image (C, H, W) for an artifact of signals and a signal (C, L) for one of images."""
    if artifact.dims + 1 != image.ndim and image.ndim in (2, 3):
        expected, actual = ("signals", "images") if artifact.dims == 1 else ("images", "signals")
        raise InputError(
            f"{artifact.name!r} is an artifact of {expected}, but the table has {actual} of shape "
            f"{image.shape}; take an artifact of {actual}, or make the table of {expected} "
            f"(dims={artifact.dims})"
        )


def _new_column(table: ImageTable, column: str) -> str:
    if column in table.frame.columns:
        raise InputError(
            f"the table has a column {column!r} already; plant under another name with column=..."
        )
    return column


def _carriers(table: ImageTable, carries: Array) -> dict[int, str]:
    if len(np.unique(table.rows)) < len(table.rows):
        raise InputError("the table lists an image twice; planting needs one row per image")
    ids = table.frame["sample_id"].to_numpy()
    return {int(table.rows[i]): str(ids[i]) for i in np.flatnonzero(carries)}


def _plantings(table: ImageTable) -> tuple[Planting, ...]:
    return table.source.plantings if isinstance(table.source, PlantedSource) else ()


def _planted(table: ImageTable, column: str | None) -> tuple[Planting, ...]:
    """The plantings meant by `column`."""
    plantings = _plantings(table)
    matches = tuple(p for p in plantings if column in (None, p.column))
    if not matches:
        names = ", ".join(repr(p.column) for p in plantings) or "none"
        raise InputError(
            f"no artifact is planted{f' as {column!r}' if column else ''} in the table; planted: {names}. "
            "Plant one with plant(table, artifact)"
        )
    return matches


def _with_plantings(table: ImageTable, plantings: tuple[Planting, ...]) -> ImageTable:
    base = table.source.base if isinstance(table.source, PlantedSource) else table.source
    source = PlantedSource(base, plantings, table.value_range) if plantings else base
    return table.replaced(source=source)
