"""Columns that were measured of files and pictures, in an audit: of which images, and which are tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from shortcutscope.audit.audited_data import AuditedData
from shortcutscope.data.properties.names import OF_BOTH, measured_source
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.metadata import MetadataScreen, screen_metadata
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.types import Array

#: Measured columns that are tested unasked: of more, those that are associated with the label most.
MOST_MEASURED = 8
#: Training images that are read for the association of these columns, at most.
MOST_TRAINING = 2000
#: Images by which the columns are screened, at most.
MOST_SCREENED = 20_000
#: False discovery rate of the screen.
LEVEL = 0.05
#: Columns that tell this share of what the best one tells of the label are as good: of these the plain facts
#: of the file come first, then what the picture is like, and last its size in bytes, which follows from both.
AS_GOOD = 0.8


def measured_data(audited: AuditedData, table: ImageTable, *, seed: int, running: Running) -> AuditedData:
    """The audited data with columns measured of the training images, too, as far as they can be read alike.

    Parameters
    ----------
    audited
        Before any image was read.
    table
        The audited samples, with the measured columns.
    seed
        Of the choice of training images.
    running
        How images are read.
    """
    reference = audited.reference
    lacking = {c for c in table.metadata if measured_source(c)}
    lacking -= set() if reference is None else set(reference.metadata)
    if reference is None or not lacking:
        return replace(audited, table=table)
    rows = np.arange(len(reference))
    if len(rows) > MOST_TRAINING:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_TRAINING, replace=False))
    sample = _measured_if_read_alike(reference.take(rows), table, running)
    if sample is None:
        text = (
            "the training images could not be read, or are not read as the audited ones are: the association "
            "of columns that are measured of files and pictures is that in the audited data"
        )
        return replace(audited, table=table, assumptions=(*audited.assumptions, text))
    columns = {c: _spread(sample, c, reference) for c in sample.metadata if c in lacking}
    assumptions = audited.assumptions
    if len(sample) < len(reference):
        assumptions += (
            f"of the {len(reference)} training images {len(sample)}, drawn at random, were read for the "
            "association of columns that are measured of files and pictures",
        )
    return replace(audited, table=table, reference=reference.with_columns(**columns), assumptions=assumptions)


def _measured_if_read_alike(sample: ImageTable, table: ImageTable, running: Running) -> ImageTable | None:
    """With the columns; None where an image of it cannot be read, or comes in another size or range."""
    try:
        alike = sample.value_range == table.value_range and sample.image(0).shape == table.image(0).shape
        if not alike:
            return None
        return sample.verify("skip", workers=running.workers, progress=running.progress, measure=True)
    except (InputError, OSError):
        return None


def _spread(sample: ImageTable, column: str, reference: ImageTable) -> Array:
    """A column over all training samples, missing where it was not measured."""
    values = sample.frame.set_index("sample_id")[column].reindex(reference.frame["sample_id"])
    return np.asarray(values.to_numpy() if values.dtype != object else values.astype(object))


def screened_measured(
    data: AuditedData, *, seed: int
) -> tuple[list[str], dict[str, str], MetadataScreen | None]:
    """Measured columns to test when no concept was asked for.

    Those that are associated with the label beyond chance; what is not cannot be a shortcut here.

    Returns
    -------
    columns : list of str
        At most `MOST_MEASURED`, the most associated first.
    refused : dict
        Column to the reason why it is not tested, of the others that are associated.
    screen : MetadataScreen or None
        None where nothing was measured.
    """
    columns = [c for c in data.table.metadata if measured_source(c)]
    if not columns:
        return [], {}, None
    frames = [data.table.frame]
    if data.reference is not None and set(columns) <= set(data.reference.frame.columns):
        read = data.reference.frame[columns].notna().any(axis=1)
        frames.append(data.reference.frame[read])
    frame = pd.concat(frames, ignore_index=True).drop_duplicates("sample_id", ignore_index=True)
    if len(frame) > MOST_SCREENED:
        frame = frame.sample(MOST_SCREENED, random_state=seed).reset_index(drop=True)
    screen = screen_metadata(frame, columns=columns, classify=False, seed=seed)
    associated = _plainest_first(screen)
    rest = associated[MOST_MEASURED:]
    why = f"{MOST_MEASURED} measured columns are associated with the label more; name it to test it"
    return associated[:MOST_MEASURED], dict.fromkeys(rest, why), screen


def _plainest_first(screen: MetadataScreen) -> list[str]:
    """Columns that are associated with the label, the best first, and of equally good ones the plainest."""
    associated = screen.found(LEVEL)
    information = screen.columns.groupby("column")["mutual_information"].max()
    enough = AS_GOOD * max((information[c] for c in associated), default=0.0)

    def order(column: str) -> tuple[bool, int, float]:
        good = bool(information[column] >= enough)
        plain = 2 if column in OF_BOTH else int(measured_source(column) == "picture")
        return not good, plain if good else 0, -float(information[column])

    return sorted(associated, key=order)
