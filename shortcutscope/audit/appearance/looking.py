"""One pass over the samples that are looked at: properties, small pictures, and the sums of both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from shortcutscope.data.axial import axial_first, knows_axial
from shortcutscope.data.decoding.loading import loaded, worker_count
from shortcutscope.data.pictures import KINDS, Kind, as_picture, trace_picture
from shortcutscope.data.properties.files import file_properties
from shortcutscope.data.properties.names import OF_FILES, WORDS
from shortcutscope.data.properties.plain import plain_properties
from shortcutscope.data.properties.traces import trace_properties
from shortcutscope.data.sources import PathSource, origin_of
from shortcutscope.data.table import ImageTable
from shortcutscope.models.texts import TextReader
from shortcutscope.processes import gathered, own_share
from shortcutscope.progress import progress_bar
from shortcutscope.types import Array, Floats, Ints

#: Longest side of the means of images, and of volumes; slices of volumes, and moments of signals.
SIDE, SIDE_OF_VOLUMES, SLICES, MOMENTS = 128, 96, 24, 480
#: Longest side of a picture that is shown, and of one of which a part is.
SHOWN_SIDE, KEPT_SIDE = 160, 512
_BATCH = 8


@dataclass(frozen=True, eq=False)
class SampleLook:
    """What is kept of one sample.

    Attributes
    ----------
    properties
        Of picture and file.
    small
        On the grid of the means, in shares of the value range.
    shown
        As a picture, of those that are shown and no volume.
    prepared
        As a model of images and texts reads it; None without one.
    """

    properties: Mapping[str, float | str]
    small: Floats
    shown: Array | None
    prepared: Tensor | None = None


class Looking(Dataset[SampleLook]):
    """The looks of a table's samples.

    Parameters
    ----------
    table
        The samples.
    shown
        Those of which a picture is kept.
    texts
        By which findings are named, too.
    """

    def __init__(self, table: ImageTable, shown: Sequence[int], texts: TextReader | None = None) -> None:
        self.table, self.shown, self.texts = table, frozenset(shown), texts
        self._of_files = _measured_of_files(table)
        first = table.image(0)
        self.kind: Kind = KINDS[first.ndim - 1]
        self.axial = self.kind == "volume" and knows_axial(table)
        self.channels = first.shape[0] if first.shape[0] == 3 or self.kind == "signal" else 1
        self.grid = grid_of(tuple(self._turned(first).shape[1:]))

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> SampleLook:
        table = self.table
        image = table.image(row)
        properties: dict[str, float | str] = {**self._of_file(row)}
        measure = trace_properties if self.kind == "signal" else plain_properties
        properties |= measure(image.numpy(), table.value_range)
        turned = self._turned(image)
        return SampleLook(
            properties,
            self._small(turned),
            self._picture(turned) if row in self.shown else None,
            self._prepared(image),
        )

    def _of_file(self, row: int) -> Mapping[str, float | str]:
        """As the table's columns say, where the files were measured; else from the file's header."""
        if self._of_files:
            return {name: values[row] for name, values in self._of_files.items()}
        table = self.table
        source, number = origin_of(table.source, int(table.rows[row]))
        return file_properties(source.path(number)) if isinstance(source, PathSource) else {}

    def _turned(self, image: Tensor) -> Tensor:
        return torch.from_numpy(axial_first(image.numpy()).copy()) if self.axial else image

    def _small(self, image: Tensor) -> Floats:
        low, high = self.table.value_range
        channels = image.float()
        if channels.shape[0] != self.channels:  # of other colours than the first
            channels = channels.mean(0, keepdim=True).expand(self.channels, *channels.shape[1:])
        small = interpolate(channels[None], self.grid, mode="area")[0]
        return ((small - low) / (high - low)).numpy().astype(np.float32)

    def _prepared(self, image: Tensor) -> Tensor | None:
        if self.texts is None:
            return None
        picture = Image.fromarray(as_picture(image.numpy(), self.table.value_range))
        return self.texts.naming.prepared(picture.convert("RGB"))

    def _picture(self, image: Tensor) -> Array | None:
        if self.kind == "volume":
            return None
        if self.kind == "signal":
            return trace_picture(image.numpy(), MOMENTS)
        picture = Image.fromarray(as_picture(image.numpy(), self.table.value_range))
        picture.thumbnail((KEPT_SIDE, KEPT_SIDE), Image.Resampling.LANCZOS)
        return np.asarray(picture)


def grid_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Grid of the means of samples of a shape, no finer than they are.

    Examples
    --------
    >>> grid_of((1024, 512)), grid_of((64, 64)), grid_of((200, 512, 512)), grid_of((5000,))
    ((128, 64), (64, 64), (24, 96, 96), (480,))
    """
    if len(shape) == 1:
        return (min(shape[0], MOMENTS),)
    longest = SIDE if len(shape) == 2 else SIDE_OF_VOLUMES
    scale = min(1.0, longest / max(shape[-2:]))
    plane = tuple(max(1, round(side * scale)) for side in shape[-2:])
    return plane if len(shape) == 2 else (min(shape[0], SLICES), *plane)


def _measured_of_files(table: ImageTable) -> dict[str, list[float | str]]:
    """Column to a value per row, of those that were measured of files."""
    columns = {name: table.frame[name].tolist() for name in OF_FILES if name in table.frame.columns}
    return {k: [str(x) if k in WORDS else float(x) for x in values] for k, values in columns.items()}


@dataclass(frozen=True, eq=False)
class Looks:
    """What one pass over samples gives.

    Attributes
    ----------
    properties
        Name to a value per sample, in their order.
    sums
        (findings, 2, *grid): the weighted sums of both sides.
    shown
        Sample to its picture, or its small volume.
    kind, axial
        What the samples are, and whether slices are axial.
    nearness
        Text to how near each sample is to it; empty without texts.
    """

    properties: Mapping[str, Array]
    sums: Floats
    shown: Mapping[int, Array]
    kind: Kind
    axial: bool
    nearness: Mapping[str, Array]


def look(
    table: ImageTable,
    rows: Ints,
    weights: Floats,
    shown: Sequence[int],
    *,
    texts: TextReader | None = None,
    workers: int | None,
    progress: bool,
) -> Looks:
    """Read samples once; processes that share the work read some of them each.

    Parameters
    ----------
    table
        That they are of.
    rows
        Their numbers.
    weights
        (findings, 2, samples) of each in the means of both sides.
    shown
        Numbers of those that are shown, among `rows`.
    texts
        By which findings are named, too.
    workers, progress
        How images are read.
    """
    looking = Looking(table, shown, texts)
    verified = own_share(len(table))  # of which this process has decoded the images before
    own = (rows >= verified.start) & (rows < verified.stop)
    parts = gathered(
        lambda: _taken_in(looking, rows[own], weights[..., own], workers=workers, progress=progress),
        "looking",
    )
    return Looks(
        _columns([one for part in parts for one in part.properties]),
        np.sum([part.sums for part in parts if part.properties], axis=0),
        {row: picture for part in parts for row, picture in part.pictures.items()},
        looking.kind,
        looking.axial,
        _columns([one for part in parts for one in part.nearness]),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """What one process took in: the properties of its samples, and as `Looks`."""

    properties: list[Mapping[str, float | str]]
    sums: Floats
    pictures: dict[int, Array]
    nearness: list[Mapping[str, float | str]]


def _taken_in(looking: Looking, rows: Ints, weights: Floats, *, workers: int | None, progress: bool) -> _Part:
    count = worker_count(looking.table, workers, batch_size=_BATCH, stop=len(rows))
    properties: list[Mapping[str, float | str]] = []
    pictures: dict[int, Array] = {}
    nearness: list[Mapping[str, float | str]] = []
    sums: Floats = np.zeros(())
    batches = loaded(looking, rows.tolist(), list, batch_size=_BATCH, workers=count)
    bar = progress_bar(total=len(rows), desc="looking", unit="image", progress=progress, leave=False)
    reading = nullcontext() if looking.texts is None else looking.texts.reading()
    with bar, reading as read:
        for batch in batches:
            done = len(properties)
            stacked = np.stack([one.small for one in batch])
            sums = sums + np.tensordot(weights[..., done : done + len(batch)], stacked, axes=1)
            for row, one in zip(rows[done : done + len(batch)].tolist(), batch, strict=True):
                properties.append(one.properties)
                if row in looking.shown:
                    pictures[row] = one.shown if one.shown is not None else one.small
            if read is not None:
                nearness += read(torch.stack([one.prepared for one in batch if one.prepared is not None]))
            bar.update(len(batch))
    return _Part(properties, sums, pictures, nearness)


def _columns(properties: Sequence[Mapping[str, float | str]]) -> dict[str, Array]:
    columns: dict[str, Array] = {}
    for name in dict.fromkeys(name for one in properties for name in one):
        raw = [one.get(name) for one in properties]
        if any(isinstance(value, str) for value in raw):
            columns[name] = np.array(raw, object)
        else:
            columns[name] = np.array([np.nan if value is None else value for value in raw], np.float64)
    return columns
