"""ImageTable: the samples of an audit, from whatever they are stored as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self, TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from shortcutscope.data.manifests.columns import Roles, as_text, require_columns, role_frame
from shortcutscope.data.manifests.duplicates import one_row_a_file
from shortcutscope.data.manifests.folders import class_folders
from shortcutscope.data.manifests.image_names import default_id, file_key, local_names, refuse_missing
from shortcutscope.data.manifests.labels import LabelChoice, label_columns, read_label
from shortcutscope.data.manifests.manifest import read_manifest, trimmed
from shortcutscope.data.manifests.missing import without_markers
from shortcutscope.data.readers.dicom_window import Window
from shortcutscope.data.readers.image import Mode, Size
from shortcutscope.data.samples import SampleTable, checked_range
from shortcutscope.data.sources import (
    ArrayMasks,
    ArraySource,
    DatasetSource,
    ImageReading,
    ImageSource,
    NpzSource,
    PathMasks,
    PathSource,
    as_array,
    npz_shape,
    read_npz,
)
from shortcutscope.data.transform import Normalize, Transform
from shortcutscope.errors import InputError
from shortcutscope.types import Array, Record

__all__ = ["ImageTable", "Normalize", "TableOptions"]


class TableOptions(TypedDict, total=False):
    """What every constructor of :class:`ImageTable` takes beside its own arguments.

    mode
        ``"L"`` or ``"RGB"`` gives all images one channel or three; None keeps what they have.
    size
        Side length or ``(height, width)`` that images are resampled to as they are read.
    dims, channels_last
        Axes of array files and items, see :func:`shortcutscope.data.readers.image.channels_first`.
    window
        Of DICOM files: ``"file"`` (as a viewer shows them, scaled to `value_range`), ``"bits"`` (the full
        range of their bits), ``(centre, width)``, or None for physical values, see
        `shortcutscope.data.readers.dicom.read_dicom`. `verify` refuses files whose own windows give one value
        several greys.
    max_pixels
        Most values that one image may have, 2**28: what files say of their size is not to be believed.
    value_range
        Lowest and highest value that an image can have. 8- and 16-bit images are scaled to it.
    transform
        From the image (C, *spatial) in `value_range` to the model's input.
    classes
        Class names in label order.
    missing
        Entries of the table that mean missing, as empty cells do: ``["NA", "unknown"]``.
    """

    mode: Mode | None
    size: Size | None
    dims: int | None
    channels_last: bool
    window: Window
    max_pixels: int
    value_range: tuple[float, float]
    transform: Transform | None
    classes: Sequence[str] | None
    missing: Sequence[str]


class ImageTable(SampleTable):
    """Samples with roles: an image, a label, a patient, a split, an annotation mask and metadata.

    Made by :meth:`from_csv`, :meth:`from_frame`, :meth:`from_folder`, :meth:`from_medmnist`,
    :meth:`from_dataset` or :meth:`from_arrays`; what a table can do is in
    :class:`shortcutscope.data.samples.SampleTable`. It is a map-style torch Dataset of
    (model input, label, row), holds no image that lies in a file, and is cheap to pickle.

    Examples
    --------
    >>> table = ss.ImageTable.from_arrays(rng.random((4, 1, 8, 8)), labels=[0, 1, 0, 1])
    >>> len(table), table.shape
    (4, (1, 8, 8))
    >>> table = ss.ImageTable.from_csv("images.csv", label="benign", size=224)  # doctest: +SKIP
    >>> table = ss.ImageTable.from_frame(frame, image="path")  # doctest: +SKIP
    >>> table = ss.ImageTable.from_folder("images", size=224)  # doctest: +SKIP
    >>> table = ss.ImageTable.from_medmnist("pneumoniamnist.npz", splits=("test",))  # doctest: +SKIP
    >>> table = ss.ImageTable.from_dataset(dataset, frame)  # doctest: +SKIP
    """

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        image: str = "image",
        label: LabelChoice = "label",
        sample_id: str | None = None,
        group: str | None = None,
        split: str | None = None,
        mask: str | None = None,
        root: str | Path | None = None,
        **options: Unpack[TableOptions],
    ) -> Self:
        """Table from a CSV, TSV or Parquet manifest with one row per image.

        Parameters
        ----------
        path
            The manifest.
        image, label, sample_id, group, split, mask
            Its columns, as in :meth:`from_frame`.
        root
            Folder that the image names start from; None for the manifest's own.
        **options
            See :class:`TableOptions`.

        Raises
        ------
        InputError
            As :meth:`from_frame`, and when the manifest cannot be read.
        """
        text = {
            "sample_id",
            "group",
            "split",
            "mask",
            image,
            *filter(None, (sample_id, group, split, mask)),
        } - set(label_columns(label))
        notes: list[str] = []
        frame = read_manifest(path, sorted(text), notes)
        table = cls.from_frame(
            frame,
            image=image,
            label=label,
            sample_id=sample_id,
            group=group,
            split=split,
            mask=mask,
            root=Path(path).parent if root is None else root,
            **options,
        )
        return table.replaced(notes=(*notes, *table.notes)) if notes else table

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        image: str = "image",
        label: LabelChoice = "label",
        sample_id: str | None = None,
        group: str | None = None,
        split: str | None = None,
        mask: str | None = None,
        root: str | Path | None = None,
        **options: Unpack[TableOptions],
    ) -> Self:
        """Table from a DataFrame with a column of image files.

        Parameters
        ----------
        frame
            One row per image. Columns without a role become metadata.
        image
            Column of file names, below `root` or absolute.
        label
            Column of class numbers or class names. Several columns of 0 and 1, or
            :class:`shortcutscope.data.manifests.labels.Labels`, for several labels a sample.
        sample_id, group, split, mask
            Columns of the ids, the patients, the split names and the mask files. None takes the column of
            that name where there is one. Without ids the samples get some that do not show the names
            (:attr:`files` has these); without groups each sample is its own. Several rows of one image are
            one sample, with the id of the first.
        root
            Folder that the names start from; None for the working directory.
        **options
            See :class:`TableOptions`.

        Raises
        ------
        InputError
            For a missing column, missing files, duplicate ids, unusable labels, or rows of one image that
            differ in label, group, split or mask.
        """
        require_columns(frame, [image, *label_columns(label), *filter(None, (mask,))])
        taken = (image, *label_columns(label))
        mask = mask or ("mask" if "mask" in frame.columns and "mask" not in taken else None)
        reading, rest = _split_options(options)
        base = str(Path("." if root is None else root).absolute())
        frame, notes = trimmed(without_markers(frame, rest.pop("missing", ())))
        frame, column, rest["labels"], rest["label_notes"] = read_label(frame, label)
        roles = Roles(column, sample_id, group, split)
        names = local_names(as_text(frame[image], "image file"), base)
        frame, rows, remarks = one_row_a_file(
            frame,
            [file_key(name, base) for name in names],
            names,
            roles.of_frame(frame),
            mask,
            labels=rest["labels"],
        )
        metadata, classes, has_groups = role_frame(
            frame,
            roles,
            default_ids=[default_id(names[row], base) for row in rows],
            drop=[column for column in (image, mask) if column is not None],
            classes=rest.pop("classes", None),
        )
        source = PathSource([names[row] for row in rows], base, reading)
        refuse_missing(source.missing(), "image", base)
        masks = None if mask is None else _mask_files(frame[mask], base, reading)
        rest["notes"] = (*notes, *remarks)
        return cls(metadata, source, classes=classes, has_groups=has_groups, masks=masks, **rest)

    @classmethod
    def from_folder(cls, root: str | Path, **options: Unpack[TableOptions]) -> Self:
        """Table from a folder with a sub-folder per class, in sorted order, as torchvision's ImageFolder.

        Folders train, val and test (training, valid, validation, testing, in any case) above or below those
        of the classes are the splits. Hidden files, what macOS and Windows leave behind, files that are no
        images by their ending, folders of masks beside ``images``, and masks beside their picture
        (``x_mask.png`` beside ``x.png``) are left out, which `notes` counts.

        Raises
        ------
        InputError
            When there is no such folder, it has no class folders, one of them has no images, or it is in
            doubt which folders are classes and which files are images.
        """
        tree = class_folders(Path(root))
        options.setdefault("classes", tree.classes)
        frame = pd.DataFrame({"image": tree.names, "label": tree.labels, "split": tree.splits})
        table = cls.from_frame(frame, root=root, **options)
        return table.replaced(notes=(*tree.notes, *table.notes))

    @classmethod
    def from_medmnist(
        cls,
        npz: str | Path,
        *,
        splits: Sequence[str] = ("train", "val", "test"),
        finding: int | None = None,
        **options: Unpack[TableOptions],
    ) -> Self:
        """Table from an npz file of MedMNIST v2 (keys ``{split}_images`` and ``{split}_labels``).

        Parameters
        ----------
        npz
            The file. Images (N, H, W), colour images (N, H, W, 3) or volumes (N, D, H, W).
        splits
            Which to take, in this order; the ids are ``<split>-<number in the split>``.
        finding
            Which label column, for sets with several labels per image (ChestMNIST).
        **options
            See :class:`TableOptions`.

        Raises
        ------
        InputError
            For a missing file or split, and for several label columns without `finding`.
        """
        if not Path(npz).is_file():
            raise InputError(f"no such file: {str(npz)!r}")
        shapes = {split: npz_shape(npz, f"{split}_images") for split in splits}
        for split, shape in shapes.items():
            if len(shape) < len(("N", "H", "W")):
                raise InputError(
                    f"{split}_images of {str(npz)!r} has the shape {shape}; images are (N, H, W)"
                )
        labels = [_label_column(read_npz(npz, f"{split}_labels"), finding) for split in splits]
        for split, column in zip(splits, labels, strict=True):
            if len(column) != shapes[split][0]:
                raise InputError(f"split {split!r} has {shapes[split][0]} images but {len(column)} labels")
        item = shapes[splits[0]][1:] if splits else ()
        colour = len(item) == 3 and item[-1] == 3
        options.setdefault("channels_last", colour)
        options.setdefault("dims", len(item) - colour)
        frame = pd.DataFrame(
            {
                "sample_id": [f"{split}-{i:05d}" for split in splits for i in range(shapes[split][0])],
                "label": np.concatenate([*labels, np.empty(0, dtype=np.int64)]),
                "split": [split for split in splits for _ in range(shapes[split][0])],
            }
        )
        reading, rest = _split_options(options)
        rest.pop("missing", None)  # there are no metadata
        return cls(frame, NpzSource(npz, [f"{split}_images" for split in splits], reading), **rest)

    @classmethod
    def from_dataset(
        cls,
        dataset: object,
        frame: pd.DataFrame,
        *,
        label: LabelChoice = "label",
        sample_id: str | None = None,
        group: str | None = None,
        split: str | None = None,
        **options: Unpack[TableOptions],
    ) -> Self:
        """Table from a map-style torch Dataset and a DataFrame with one row per item.

        Parameters
        ----------
        dataset
            Items are an image, ``(image, ...)`` or a mapping with the key ``"image"``; an image is a tensor
            or array, see :func:`shortcutscope.data.readers.image.channels_first`, or a PIL image.
        frame, label, sample_id, group, split
            As in :meth:`from_frame`. Without ids the row numbers are the ids.
        **options
            See :class:`TableOptions`.

        Raises
        ------
        InputError
            When the lengths differ, and as :meth:`from_frame`.
        """
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise InputError(f"{type(dataset).__name__} has no length or no items; give a map-style Dataset")
        reading, rest = _split_options(options)
        return cls._from_items(
            DatasetSource(dataset, reading), frame, label, Roles("", sample_id, group, split), rest
        )

    @classmethod
    def from_arrays(
        cls,
        images: npt.ArrayLike | Tensor,
        frame: pd.DataFrame | npt.ArrayLike | None = None,
        *,
        labels: npt.ArrayLike | None = None,
        label: LabelChoice = "label",
        sample_id: str | None = None,
        group: str | None = None,
        split: str | None = None,
        masks: npt.ArrayLike | Tensor | None = None,
        **options: Unpack[TableOptions],
    ) -> Self:
        """Table of images in memory.

        Parameters
        ----------
        images
            ``(N, H, W)``, ``(N, C, H, W)`` or ``(N, C, *spatial)``, not copied. Signals
            (N, C, L) need ``dims=1``, volumes (N, D, H, W) ``dims=3``.
        frame
            One row per image, or just the labels.
        labels : (N,) or (N, L)
            Instead of `frame`, or beside one that has no label column; of several labels in the order of
            `label`.
        label, sample_id, group, split
            Columns, as in :meth:`from_frame`. Without ids the row numbers are the ids.
        masks
            Annotation masks ``(N, *spatial)``, inside where not zero.
        **options
            See :class:`TableOptions`.

        Raises
        ------
        InputError
            When the lengths differ, and as :meth:`from_frame`.
        """
        array = as_array(images)
        if array.ndim < 2:
            raise InputError(
                f"images must be an array of N images, (N, H, W) or (N, C, H, W), not {array.shape}"
            )
        if not isinstance(frame, pd.DataFrame):
            labels = frame if labels is None else labels
            frame = pd.DataFrame()
        if labels is not None:
            columns = _columns_of(as_array(labels), label)
            if not frame.empty and len(frame) != len(columns):
                raise InputError(f"{len(frame)} rows of metadata do not match {len(columns)} labels")
            frame = frame.reset_index(drop=True).drop(columns=list(columns), errors="ignore")
            frame = pd.concat([frame, columns], axis=1)
        reading, rest = _split_options(options)
        mask_array = None if masks is None else as_array(masks)
        if mask_array is not None and len(mask_array) != len(array):
            raise InputError(f"{len(mask_array)} masks do not match {len(array)} images")
        rest["masks"] = None if mask_array is None else ArrayMasks(mask_array, reading.size)
        return cls._from_items(
            ArraySource(array, reading), frame, label, Roles("", sample_id, group, split), rest
        )

    @classmethod
    def _from_items(
        cls, source: ImageSource, frame: pd.DataFrame, label: LabelChoice, roles: Roles, rest: Record
    ) -> Self:
        frame, notes = trimmed(without_markers(frame, rest.pop("missing", ())))
        frame, column, rest["labels"], rest["label_notes"] = read_label(frame, label)
        roles = replace(roles, label=column)
        metadata, classes, has_groups = role_frame(frame, roles, classes=rest.pop("classes", None))
        return cls(metadata, source, classes=classes, has_groups=has_groups, notes=notes, **rest)


def _split_options(options: TableOptions) -> tuple[ImageReading, Record]:
    """How to read, and what is left for the table's constructor; checked before any file is touched."""
    rest: Record = dict(options)
    if "value_range" in rest:
        rest["value_range"] = checked_range(rest["value_range"])
    how = ("mode", "size", "dims", "channels_last", "window", "max_pixels")
    reading = {name: rest.pop(name) for name in how if name in rest}
    unknown = sorted(set(rest) - set(TableOptions.__annotations__))
    if unknown:
        raise InputError(
            f"unknown option(s) {', '.join(unknown)}; allowed are {', '.join(TableOptions.__annotations__)}"
        )
    return ImageReading(**reading), rest


def _columns_of(labels: Array, label: LabelChoice) -> pd.DataFrame:
    """Labels (N,), or several of a sample (N, L), as columns of their names."""
    names = label_columns(label)
    values = labels.reshape(len(labels), -1) if labels.ndim > 1 else labels.ravel()[:, None]
    if len(names) == 1 and values.shape[1] > 1:
        raise InputError(
            f"labels of shape {labels.shape} are several a sample: name them, label=[...], in their order"
        )
    if values.shape[1] != len(names):
        raise InputError(f"labels of shape {labels.shape} for {len(names)} names; give one column for each")
    return pd.DataFrame(dict(zip(names, values.T, strict=True)))


def _mask_files(column: pd.Series, base: str, reading: ImageReading) -> PathMasks:
    files = local_names(as_text(column, "mask", optional=True), base)
    masks = PathMasks(files, base, reading.size, reading.max_pixels)
    refuse_missing(masks.missing(), "mask", base)
    return masks


def _label_column(labels: Array, finding: int | None) -> Array:
    if labels.ndim not in (1, 2):
        raise InputError(f"the labels have the shape {labels.shape}; allowed are (N,) and (N, findings)")
    if labels.ndim == 1 or labels.shape[1] == 1:
        return labels.reshape(len(labels))
    if finding is None or not 0 <= finding < labels.shape[1]:
        raise InputError(
            f"each image has {labels.shape[1]} labels; choose one with finding=0 to {labels.shape[1] - 1}, "
            f"not {finding}"
        )
    column: Array = labels[:, finding]
    return column
