"""WFDB records, the format of PhysioNet: signals in their physical unit, one channel a lead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.types import Array

__all__ = ["is_waveform", "read_waveform", "waveform_length"]


#: Ending of a record's header, by which a record is named; ``.dat`` is too common for a file to be one by it.
HEADER_SUFFIX = ".hea"


def is_waveform(path: Path) -> bool:
    """Whether a file is of a WFDB record: its header, or the signals beside a header of the same name."""
    suffix = path.suffix.lower()
    return suffix == HEADER_SUFFIX or (suffix == ".dat" and path.with_suffix(HEADER_SUFFIX).is_file())


def read_waveform(path: str | Path, max_pixels: int = MAX_PIXELS) -> Array:
    """Signals of a WFDB record.

    Stored integers become physical values by the gain and the baseline of the header; signals of another
    sampling rate than the record's are averaged to it, segments are joined.

    Parameters
    ----------
    path
        The record's header (``.hea``), or its signals (``.dat``) beside the header.
    max_pixels
        Most values that a record may have: leads times samples.

    Returns
    -------
    array : float32 (leads, samples)
        In the unit of the header, of an ECG mostly millivolt; NaN where the record says that a sample is
        invalid. The leads are in the order of the file.

    Raises
    ------
    InputError
        When the record has no signals, more than `max_pixels` values, a file of them is missing or lies in
        another folder, or wfdb is not installed. Broken files raise what wfdb raises.
    """
    path = Path(path)
    header = _header(path)
    check_size((int(header.n_sig or 1), int(header.sig_len or 1)), max_pixels)
    _refuse_without_signals(header, path.parent)
    record = _wfdb().rdrecord(str(path.with_suffix("")), return_res=32)
    return np.ascontiguousarray(np.asarray(record.p_signal, dtype=np.float32).T)


def waveform_length(path: str | Path) -> int | None:
    """Number of samples in time, from the header alone; None where it does not say.

    Broken files raise what wfdb raises.
    """
    length = _header(path).sig_len
    return None if length is None else int(length)


def _header(path: str | Path) -> Any:
    return _wfdb().rdheader(str(Path(path).with_suffix("")), rd_segments=True)


def _refuse_without_signals(header: Any, folder: Path) -> None:
    if not header.n_sig:
        raise InputError("the record has no signals")
    # A record of several segments has the files of its segments; "~" stands for a gap.
    records = [header] if hasattr(header, "file_name") else [s for s in header.segments if s is not None]
    names = {name for record in records for name in getattr(record, "file_name", None) or () if name != "~"}
    elsewhere = sorted(name for name in names if Path(name).name != name)
    if elsewhere:
        raise InputError(f"the header names {elsewhere[0]!r}; the files of a record lie beside it")
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise InputError(f"the header names the signal file {missing[0]!r}, which does not exist beside it")


def _wfdb() -> Any:
    return require("wfdb", "medical", "reading WFDB records")
