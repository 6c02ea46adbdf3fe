"""Images with a label, a patient, a split and metadata: reading, selecting, checking, fingerprints."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, Self, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from shortcutscope.data import verification
from shortcutscope.data.decoding.decoded import DecodedImages
from shortcutscope.data.geometry import Geometry
from shortcutscope.data.manifests.columns import (
    ROLES,
    Roles,
    encode_labels,
    quoted,
    require_columns,
    role_frame,
)
from shortcutscope.data.manifests.duplicates import one_group_a_picture
from shortcutscope.data.manifests.labels import label_column, one_of
from shortcutscope.data.privacy import without_folders
from shortcutscope.data.properties.columns import columns_of
from shortcutscope.data.readers.image import to_float
from shortcutscope.data.sample_geometry import sample_geometry
from shortcutscope.data.sources import ImageSource, MaskSource, as_array
from shortcutscope.data.splits import assert_splits_apart
from shortcutscope.data.stored_frame import file_name
from shortcutscope.data.transform import Transform, fingerprint_of
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.show import parts
from shortcutscope.show.isolation import sheet
from shortcutscope.types import Floats, Ints

_SHOWN = 5


class TableParts(TypedDict, total=False):
    """What a table is made of: the arguments of its constructor."""

    frame: pd.DataFrame
    source: ImageSource
    rows: npt.ArrayLike | None
    value_range: tuple[float, float]
    transform: Transform | None
    classes: Sequence[str] | None
    has_groups: bool | None
    masks: MaskSource | None
    skipped: Iterable[tuple[str, str]]
    notes: Iterable[str]
    workers: int | None
    labels: Sequence[str]
    label_notes: Iterable[str]


class SampleTable(Dataset[tuple[Tensor, int, int]]):
    """Samples with roles; immutable by convention: every method gives a new table on the same images.

    Users make an :class:`shortcutscope.data.table.ImageTable`, which adds the ways to make one.

    Parameters
    ----------
    frame
        Columns sample_id (unique), label (class number), group, split (the last two optional), metadata.
    source
        The images.
    rows
        Row of the frame to number in the source; None for one to one.
    value_range
        Lowest and highest value of an image.
    transform
        From the image (C, *spatial) in `value_range` to the model's input.
    classes
        Class names in label order.
    has_groups
        False where no patient was given and each sample is its own group. None: whether the column
        ``group`` differs from the ids.
    masks
        Annotation masks, numbered as the source.
    skipped
        (sample_id, reason) of the images that were left out.
    notes
        What was guessed or left out as the table was made; an audit repeats it.
    workers
        Processes that read the images where a reader does not say; None for as many as pay, see
        :func:`shortcutscope.data.decoding.loading.worker_count`.
    labels
        Names of several labels a sample, each a column of 1, 0 and NaN (unknown), see
        :func:`shortcutscope.data.manifests.labels.label_column`; the role ``label`` says nothing then.
        :meth:`for_label` gives the samples with one of them as their label.
    label_notes
        How cells were read that say neither yes nor no.

    Raises
    ------
    InputError
        For an empty frame, duplicate ids, unusable labels, rows outside the source, or an unknown range.
    """

    frame: pd.DataFrame
    source: ImageSource
    rows: Ints
    value_range: tuple[float, float]
    transform: Transform | None
    classes: tuple[str, ...] | None
    has_groups: bool
    masks: MaskSource | None
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    workers: int | None
    labels: tuple[str, ...]
    label_notes: tuple[str, ...]

    def __init__(
        self,
        frame: pd.DataFrame,
        source: ImageSource,
        *,
        rows: npt.ArrayLike | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        transform: Transform | None = None,
        classes: Sequence[str] | None = None,
        has_groups: bool | None = None,
        masks: MaskSource | None = None,
        skipped: Iterable[tuple[str, str]] = (),
        notes: Iterable[str] = (),
        workers: int | None = None,
        labels: Sequence[str] = (),
        label_notes: Iterable[str] = (),
    ) -> None:
        self.frame, self.classes, grouped = role_frame(frame, Roles(), classes=classes)
        patients = grouped and bool((self.frame["group"] != self.frame["sample_id"]).any())
        self.has_groups = patients if has_groups is None else has_groups
        self.source = source
        self.rows = np.arange(len(source)) if rows is None else np.asarray(rows, dtype=np.int64)
        self.value_range = checked_range(value_range)
        if transform is not None and not callable(transform):
            raise InputError(f"transform must be callable or None, not {type(transform).__name__}")
        self.transform = transform
        self.masks = masks
        self.skipped = tuple(skipped)
        self.notes = tuple(notes)
        self.workers = workers
        self.labels, self.label_notes = tuple(labels), tuple(label_notes)
        self._check_labels()
        if self.rows.shape != (len(self.frame),):
            raise InputError(f"{len(self.frame)} rows of metadata do not match {self.rows.size} images")
        if self.rows.min() < 0 or self.rows.max() >= len(source):
            raise InputError(f"rows must lie between 0 and {len(source) - 1}, the images of the source")

    def _check_labels(self) -> None:
        columns = [label_column(name) for name in self.labels]
        require_columns(self.frame, columns)
        for column in columns:
            if not self.frame[column].dropna().isin((0, 1)).all():
                raise InputError(f"label column {column!r} holds other values than 0, 1 and NaN (unknown)")

    # Reading

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        """Model input, label and row of sample `i`."""
        row = range(len(self))[i]  # IndexError past the end, so that a plain loop over the table ends
        return self.transformed(self.image(row)), int(self._labels[row]), row

    @cached_property
    def _labels(self) -> Ints:
        return self.frame["label"].to_numpy(dtype=np.int64)

    def image(self, i: int) -> Tensor:
        """Image `i` before the transform: float32 (C, *spatial) in `value_range`."""
        return to_float(as_array(self.source.read(int(self.rows[i]))), self.value_range)

    def transformed(self, image: Tensor) -> Tensor:
        """Model input of an image.

        Raises
        ------
        InputError
            When the transform does not give a tensor.
        """
        if self.transform is None:
            return image
        out = self.transform(image)
        if not isinstance(out, Tensor):
            raise InputError(f"the transform must give a tensor, not {type(out).__name__}")
        return out

    def mask(self, i: int) -> Tensor | None:
        """Annotation mask of image `i` before the transform, bool (*spatial), or None."""
        array = None if self.masks is None else self.masks.read(int(self.rows[i]))
        return None if array is None else torch.from_numpy(np.ascontiguousarray(array, dtype=np.bool_))

    def geometry(self, i: int, image: Tensor | None = None) -> Geometry:
        """Where the pixels of model input `i` lie in the image's own file.

        See :func:`shortcutscope.data.sample_geometry.sample_geometry`.
        """
        return sample_geometry(self, i, image)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first model input, without the batch axis."""
        return tuple(self[0][0].shape)

    @property
    def metadata(self) -> list[str]:
        """Columns that can be used as concepts; labels are none."""
        own = {*ROLES, *map(label_column, self.labels)}
        return [column for column in self.frame.columns if column not in own]

    @property
    def label_values(self) -> Floats:
        """Several labels of each sample, (N, L): 1, 0, or NaN where unknown; L is 0 where there is one."""
        return self.frame[[label_column(name) for name in self.labels]].to_numpy(np.float64, copy=True)

    @property
    def files(self) -> dict[str, str]:
        """Sample id to the name of its image's file below the table's root; empty without files."""
        ids = self.frame["sample_id"].tolist()
        pairs = zip(ids, (file_name(self.source, int(row)) for row in self.rows), strict=True)
        return {sample_id: name for sample_id, name in pairs if name is not None}

    # Deriving another table

    def take(self, indices: npt.ArrayLike) -> Self:
        """Table of the given rows, in that order; a boolean array selects.

        Raises
        ------
        InputError
            When nothing is left, a row is repeated, or does not exist.
        """
        rows = np.asarray(indices)
        if rows.dtype == np.bool_:
            if rows.shape != (len(self),):
                raise InputError(f"a boolean selection needs {len(self)} entries, not {rows.shape}")
            rows = np.flatnonzero(rows)
        rows = rows.astype(np.int64).ravel()
        if rows.size and (rows.min() < -len(self) or rows.max() >= len(self)):
            raise InputError(f"rows must lie between 0 and {len(self) - 1}")
        frame = self.frame.iloc[rows].reset_index(drop=True)
        return self.replaced(frame=frame, rows=self.rows[rows])

    def where(self, **values: object) -> Self:
        """Rows whose columns have the given value or one of several: ``where(split="test", age=[60, 61])``.

        Raises
        ------
        InputError
            For a column that does not exist, or when no row is left.
        """
        require_columns(self.frame, list(values))
        keep = np.ones(len(self), dtype=bool)
        for column, value in values.items():
            allowed = list(value) if isinstance(value, Collection) and not isinstance(value, str) else [value]
            keep &= self.frame[column].isin(allowed).to_numpy()
            if not keep.any():
                values_text = ", ".join(map(repr, self.frame[column].unique()[:_SHOWN]))
                raise InputError(f"no row is left with {column}={value!r}; the column has {values_text}")
        return self.take(keep)

    def with_columns(self, **columns: npt.ArrayLike) -> Self:
        """Table with columns added or replaced: metadata, or the roles label, group and split.

        Raises
        ------
        InputError
            For a column of another length, or a new sample_id, which would break the tie to earlier results.
        """
        if "sample_id" in columns:
            raise InputError("sample_id cannot be replaced; make a new table from the frame instead")
        frame = self.frame.copy()
        for name, values in columns.items():
            array = values.array if isinstance(values, pd.Series) else as_array(values)
            if len(array) != len(self):
                raise InputError(f"column {name!r} has {len(array)} entries, the table {len(self)} rows")
            frame[name] = array
        classes = self.classes
        if "label" in columns:
            frame["label"], classes = encode_labels(frame["label"], self.classes)
        return self.replaced(frame=frame, classes=classes, has_groups=self.has_groups or "group" in columns)

    def for_label(self, name: str) -> Self:
        """The samples of which one of several labels is known, with it as the label; the others are metadata.

        Parameters
        ----------
        name
            Of the label, however it is written: ``"pleural_thickening"`` for ``"Pleural Thickening"``.

        Raises
        ------
        InputError
            For a label that there is not, and one that is known of no sample.

        Examples
        --------
        >>> import numpy as np
        >>> from shortcutscope import ImageTable
        >>> images, labels = np.zeros((3, 8, 8)), [[0, 1], [1, np.nan], [1, 0]]
        >>> table = ImageTable.from_arrays(images, labels=labels, label=["edema", "mass"])
        >>> table.for_label("mass").frame["label"].tolist()
        [1, 0]
        """
        name = one_of(name, self.labels)
        values = self.frame[label_column(name)]
        rows = np.flatnonzero(values.notna())
        if not rows.size:
            raise InputError(f"label {name!r} is known of none of the {len(self)} samples")
        frame = self.frame.iloc[rows].drop(columns=label_column(name))
        frame["label"] = values.iloc[rows].astype(np.int64)
        return self.replaced(
            frame=frame.reset_index(drop=True),
            rows=self.rows[rows],
            classes=(f"no {name}", name),
            labels=(),
            label_notes=(),
            notes=(*self.notes, *self.label_notes_of(name)),
        )

    def label_notes_of(self, name: str) -> list[str]:
        """How the cells of one of several labels were read that say neither yes nor no."""
        return [note for note in self.label_notes if note.startswith(f"label {name!r}:")]

    def require_one_label(self, what: str) -> None:
        """Refuse several labels where a stage works on one.

        Raises
        ------
        InputError
            Names them, and how to choose.
        """
        if self.labels:
            raise InputError(
                f"{what} has {len(self.labels)} labels ({quoted(self.labels)}), and this is done for one of "
                f"them: give data.for_label({self.labels[0]!r})"
            )

    def with_transform(self, transform: Transform | None) -> Self:
        """Table with another transform."""
        return self.replaced(transform=transform)

    def replaced(self, **changes: Unpack[TableParts]) -> Self:
        """Table with other constructor arguments; a new `source` comes with its own `rows` and `masks`."""
        return type(self)(**{**{name: getattr(self, name) for name in TableParts.__annotations__}, **changes})

    def keeping(self, running: Running | None = None, images: DecodedImages | None = None) -> Self:
        """The same samples, each image decoded once as far as there is room.

        All tables that are derived from this one share what was decoded, and so do stages that are given it:
        an audit keeps images for as long as it runs, ``data = data.keeping()`` before it for longer. Images
        that lie in memory already are not kept a second time.

        Parameters
        ----------
        running
            Whose `workers`, `cache` and `cache_gb` are read.
        images
            Where images are kept, to be shared by several tables; by default as `running` says.

        Raises
        ------
        InputError
            As :class:`shortcutscope.data.decoding.decoded.DecodedImages`.
        """
        running = running or Running()
        images = images or DecodedImages(running.cache, running.cache_gb)
        workers = self.workers if running.workers is None else running.workers
        table = self.replaced(source=images.over(self.source), workers=workers)
        if "_fingerprint" in self.__dict__:
            table.__dict__["_fingerprint"] = self._fingerprint
        return table

    def _with_label_sets(self) -> pd.DataFrame:
        """The frame; of several labels with a number for each set of them in place of the label."""
        if not self.labels:
            return self.frame
        sets = np.unique(np.nan_to_num(self.label_values, nan=2.0), axis=0, return_inverse=True)[1]
        return self.frame.assign(label=sets.ravel())

    # Checking

    def verify(
        self,
        on_unreadable: Literal["raise", "skip"] = "raise",
        *,
        workers: int | None = None,
        progress: bool = True,
        channels: int | None = None,
        measure: bool = False,
    ) -> Self:
        """Decode every image and mask once and name everything that cannot be used.

        Parameters
        ----------
        on_unreadable
            ``"skip"`` leaves unreadable and truncated images out and lists them in `skipped`.
        workers
            Worker processes; None for the table's.
        progress
            Show a progress bar.
        channels
            Channels that the model takes; None only asks that all images have the same.
        measure
            Also measure the columns of :meth:`measured`, in the same pass.

        Returns
        -------
        SampleTable
            The same table, without the skipped images. Samples with the same picture are in one group, and
            its `notes` name them.

        Raises
        ------
        InputError
            One error that lists unreadable images, mixed shapes, wrong channel counts, values that are not
            finite or outside `value_range`, masks of another size than their image, and images that come
            out differently at a second read.
        """
        if on_unreadable not in ("raise", "skip"):
            raise InputError(f'on_unreadable must be "raise" or "skip", not {on_unreadable!r}')
        inspections = verification.inspect(self, workers=workers, progress=progress, measure=measure)
        unreadable = [i for i in inspections if i.unreadable]
        readable = [i for i in inspections if not i.unreadable]
        sentences = verification.problems(self, readable, channels) if readable else []
        if unreadable and (on_unreadable == "raise" or not readable):
            sentences.insert(0, verification.unreadable_problem(self, unreadable))
        verification.refuse(sentences)
        table = self.take([i.row for i in readable]) if unreadable else self
        verification.check_repeatable(table)
        groups, notes = one_group_a_picture(table._with_label_sets(), [i.picture for i in readable])
        if unreadable:
            ids = self.frame["sample_id"].tolist()
            left_out = ((ids[i.row], without_folders(i.unreadable)) for i in unreadable)
            table = table.replaced(skipped=(*self.skipped, *left_out))
        if notes:
            table = table._regrouped(groups, notes)
        return table._with_properties(readable) if measure else table

    def _regrouped(self, groups: list[str], notes: list[str]) -> Self:
        """The same samples in other groups, which follow from the pictures: the fingerprint stays."""
        table = self.with_columns(group=groups).replaced(notes=(*self.notes, *notes))
        table.__dict__["_fingerprint"] = self._fingerprint
        return table

    def measured(self, running: Running | None = None) -> Self:
        """The same samples with columns that nobody typed: measured of each file, and of each picture.

        Of the file's header: size, aspect, bytes, format, codec, JPEG quality, bit depth, colour mode,
        device, view, site, year; of the picture before the transform: constant rim, mean grey, contrast,
        sharpness, noise, colours. All are in `shortcutscope.data.properties.names`. A column of that name
        which the table has already stays as it is. An audit does this unasked.

        Parameters
        ----------
        running
            Whose `workers` and `progress` are read.

        Raises
        ------
        InputError
            Names images that cannot be read.

        Examples
        --------
        >>> import numpy as np
        >>> from shortcutscope import ImageTable
        >>> images = np.random.default_rng(0).random((4, 16, 16))
        >>> table = ImageTable.from_arrays(images, [0, 1, 0, 1]).measured(Running(progress=False))
        >>> table.metadata[:2]
        ['picture_border', 'picture_mean_grey']
        """
        running = running or Running()
        running.require_only("a measurement", "workers", "progress")
        inspections = verification.inspect(
            self, workers=running.workers, progress=running.progress, measure=True
        )
        broken = [replace(i, unreadable=i.unreadable or i.refused) for i in inspections if not i.properties]
        verification.refuse([verification.unreadable_problem(self, broken)] if broken else [])
        return self._with_properties(inspections)

    def _with_properties(self, inspections: Sequence[verification.Inspection]) -> Self:
        """With the columns that were measured, of which no fingerprint depends."""
        columns = columns_of([i.properties for i in inspections if i.properties is not None])
        table = self.with_columns(**{k: v for k, v in columns.items() if k not in self.frame.columns})
        if "_fingerprint" in self.__dict__:
            table.__dict__["_fingerprint"] = self._fingerprint
        return table

    def assert_groups_apart(self) -> None:
        """Raise InputError naming the groups that lie in two splits."""
        assert_splits_apart(self.frame)

    def fingerprint(self) -> str:
        """SHA-256 over the order, ids, labels, groups, value range and content identity of the samples.

        Metadata, splits, masks and the transform do not count: they do not change what a model computes
        from an image (for the transform see :meth:`transform_fingerprint`). For files, content is the name,
        length and both ends of the file (see :class:`shortcutscope.data.sources.PathSource`), read once per
        table object. No absolute path counts, so that a moved data set stays the same.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.value_range).encode())
        columns = (self.frame[name].tolist() for name in ("sample_id", "label", "group"))
        for row, *roles in zip(self.rows.tolist(), *columns, strict=True):
            digest.update(json.dumps([*roles, self.source.identity(row)]).encode())
        if self.labels:
            digest.update(json.dumps(self.labels).encode())
            digest.update(np.nan_to_num(self.label_values, nan=2.0).astype(np.int8).tobytes())
        return digest.hexdigest()

    def transform_fingerprint(self) -> str:
        """SHA-256 of the transform, see :func:`shortcutscope.data.transform.fingerprint_of`."""
        return fingerprint_of(self.transform)

    # Showing

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}: {value}' for name, value in self._facts())})"

    def _repr_html_(self) -> str:
        facts = [(name, value) for name, value in self._facts() if name != "note"]
        told = [value for name, value in self._facts() if name == "note"]
        head = parts.table(self.frame.head(_SHOWN), more=max(0, len(self) - _SHOWN))
        return sheet(
            parts.heading(type(self).__name__), parts.facts(facts), parts.notes(told), head, plain=repr(self)
        )

    def _facts(self) -> list[tuple[str, str]]:
        counts = self.frame["label"].value_counts().sort_index()
        names = {
            n: f"{self.classes[n]}" if self.classes and n < len(self.classes) else f"{n}"
            for n in counts.index
        }
        told = ", ".join(f"{names[n]} {k}" for n, k in counts.items())
        if self.labels:
            values = self.label_values
            pairs = zip(self.labels, np.nansum(values, 0), np.isfinite(values).sum(0), strict=True)
            told = ", ".join(f"{name} {int(with_)} of {known}" for name, with_, known in pairs)
        facts = [("images", str(len(self))), ("labels", told)]
        if self.has_groups:
            facts.append(("groups", str(self.frame["group"].nunique())))
        if (self.frame["split"] != "").any():
            splits = self.frame["split"].value_counts(sort=False)
            facts.append(("splits", ", ".join(f"{name or 'unknown'} {k}" for name, k in splits.items())))
        if self.metadata:
            more = " ..." if len(self.metadata) > 2 * _SHOWN else ""
            facts.append(("metadata", ", ".join(self.metadata[: 2 * _SHOWN]) + more))
        facts.append(("value range", "{:g} to {:g}".format(*self.value_range)))
        if self.skipped:
            facts.append(("skipped", str(len(self.skipped))))
        facts += [("note", text) for text in (*self.notes, *self.label_notes)]
        return facts


def checked_range(value_range: Any) -> tuple[float, float]:
    """Bounds of a declared range; InputError unless they are two finite rising numbers."""
    try:
        low, high = (float(bound) for bound in value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            "value_range must be the lowest and highest value of an image, such as (0, 1), "
            f"not {value_range!r}"
        )
    return low, high
