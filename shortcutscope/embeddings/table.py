"""The samples that embeddings are of: their labels, patients and columns, and which row is whose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from shortcutscope.data.features import Features
from shortcutscope.data.manifests.columns import Roles, quoted, role_frame
from shortcutscope.data.manifests.manifest import read_manifest, trimmed
from shortcutscope.data.manifests.missing import without_markers
from shortcutscope.data.sources import ArraySource
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.types import Ints

Frame = pd.DataFrame | str | Path


@dataclass(frozen=True, eq=False)
class LabelledTable:
    """A table without images, and whether its ids are the user's own."""

    table: ImageTable
    has_ids: bool


def labelled_table(
    frame: Frame, roles: Roles, *, classes: Sequence[str] | None = None, missing: Sequence[str] = ()
) -> LabelledTable:
    """Labels, patients and columns, as an image table has them.

    Parameters
    ----------
    frame
        A DataFrame, or a CSV, TSV or Parquet file.
    roles
        Its columns with a role.
    classes
        Class names in label order.
    missing
        Entries that mean missing.

    Raises
    ------
    InputError
        As `ImageTable.from_frame`.
    """
    notes: list[str] = []
    if not isinstance(frame, pd.DataFrame):
        text = {"sample_id", "group", "split", *filter(None, (roles.sample_id, roles.group, roles.split))}
        frame = read_manifest(frame, sorted(text - {roles.label}), notes)
    frame, remarks = trimmed(without_markers(frame.reset_index(drop=True), missing))
    metadata, names, has_groups = role_frame(frame, roles, classes=classes)
    source = ArraySource(np.broadcast_to(np.float32(0), (len(metadata), 1, 1)))
    table = ImageTable(metadata, source, classes=names, has_groups=has_groups, notes=(*notes, *remarks))
    return LabelledTable(table, "sample_id" in roles.of_frame(frame))


def own_columns(encoders: Mapping[str, Features]) -> pd.DataFrame:
    """The table that the features' own files hold, where none is given beside them.

    Raises
    ------
    InputError
        When no file holds columns, or several do.
    """
    with_columns = {name: features for name, features in encoders.items() if len(features.columns.columns)}
    if len(with_columns) != 1:
        raise InputError(
            "no labels are given: give frame=, a table with label, patient and columns of each sample"
            if not with_columns
            else f"several files hold columns ({quoted(list(with_columns))}): give the table once, frame="
        )
    ((_, features),) = with_columns.items()
    if features.ids is None:
        return features.columns
    return features.columns.assign(sample_id=list(features.ids))


def matched(features: Features, samples: LabelledTable, wanted: ImageTable, name: str) -> tuple[Ints, str]:
    """Row of the features of each wanted sample, and how they were found.

    Parameters
    ----------
    features
        Of an encoder.
    samples
        The whole table.
    wanted
        Some of its rows.
    name
        Of the encoder.

    Raises
    ------
    InputError
        Where there are ids on both sides and samples are missing among the features; and where there are not,
        for another number of rows.
    """
    ids = wanted.frame["sample_id"].tolist()
    if features.ids is not None and samples.has_ids:
        rows = features.rows_of(ids, name)
        spare = len(features.ids) - len(ids)
        more = f"; {spare} further rows were left out" if spare else ""
        return rows, f"rows were matched by sample_id{more}"
    n = len(samples.table)
    if features.shape[0] != n:
        which = "the table" if features.ids is not None else "the features"
        raise InputError(
            f"encoder {name!r} has {features.shape[0]} rows and the table {n}: rows can only be matched by "
            f"sample_id, which {which if features.ids is not None or samples.has_ids else 'neither'} "
            f"{'lacks' if features.ids is not None or samples.has_ids else 'has'}. Give ids to both"
        )
    number = {key: row for row, key in enumerate(samples.table.frame["sample_id"])}
    order = "rows were matched by position: features and table do not both have sample_id"
    return np.array([number[key] for key in ids]), order
