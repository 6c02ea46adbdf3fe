"""CSV of the intervals in which a signal's leads are masked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from shortcutscope.data.readers.size_limit import check_size
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import write_atomically
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect, names_of
from shortcutscope.masks.formats.layout import as_given, provenance_of, require_kinds
from shortcutscope.masks.formats.staging import staged
from shortcutscope.masks.manifest import MANIFEST, read_manifest, write_manifest
from shortcutscope.masks.mask_files import Mask
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.retrieval.signals import spans

#: File of the intervals in an exported folder, and its columns.
FILE = "intervals.csv"
COLUMNS = ("sample_id", "lead", "start", "stop")


def export_csv(
    masks: MaskSet, path: str | Path, *, rate: float | None = None, leads: Sequence[str] | None = None
) -> Path:
    """Write a folder with ``intervals.csv``, one row an interval, and ``masks.json``.

    Columns are ``sample_id``, ``lead`` (its row, from 0), ``start`` and ``stop`` (samples from 0; `stop` is
    the first that is outside). Signals without an interval stand in ``masks.json`` only, which also has the
    sizes and the provenance.

    Parameters
    ----------
    masks
        Of signals.
    path
        Folder.
    rate
        Samples a second: adds ``start_s`` and ``stop_s``.
    leads
        Names of the leads in their order: adds ``lead_name``.

    Raises
    ------
    InputError
        For masks that are not of signals, a rate that is not positive, or too few names.
    """
    require_kinds(masks, "CSV", ["signal"])
    if rate is not None and not rate > 0:
        raise InputError(f"rate must be positive, in samples a second, not {rate}")
    most = max(entry.size[0] for entry in masks.entries)
    if leads is not None and len(leads) < most:
        raise InputError(f"{len(leads)} names of leads are given, the signals have up to {most}")
    rows = [(sample_id, *span) for sample_id, mask in masks for span in spans(mask)]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if leads is not None:
        frame.insert(2, "lead_name", [str(leads[lead]) for lead in frame["lead"]])
    if rate is not None:
        frame = frame.assign(start_s=frame["start"] / rate, stop_s=frame["stop"] / rate)
    text = frame.to_csv(index=False)
    entries = [
        replace(as_given(masks, entry, masks.mask(entry.sample_id)), file=FILE) for entry in masks.entries
    ]
    with staged(Path(path)) as folder:
        write_atomically(folder / FILE, lambda file: file.write(text.encode()))
        write_manifest(folder / MANIFEST, masks.name, entries, provenance_of(masks))
    return Path(path)


def import_csv(
    path: str | Path, out: str | Path, *, like: MaskSet | None = None, name: str = "imported"
) -> MaskSet:
    """Read intervals of signals into a set in the folder `out`.

    Rows may come in any order and overlap. A signal of which there is no row has an empty mask.

    Parameters
    ----------
    path
        Folder that was exported, or a CSV file with the columns sample_id, lead, start and stop, beside
        which ``masks.json`` or `like` tells the sizes.
    out, like, name
        As in :func:`shortcutscope.masks.formats.png.import_png`.

    Raises
    ------
    InputError
        For a missing or malformed file, unknown samples, intervals outside the signal, unknown sizes, or
        what `collect` refuses.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    frame = _table(file)
    beside = file.parent / MANIFEST
    manifest = read_manifest(beside) if beside.exists() else None
    entries = manifest.entries if manifest else (like.entries if like is not None else ())
    if not entries:
        raise InputError(f"the sizes of the signals are not known: give like=, or lay {MANIFEST} by {file}")
    expected = {entry.sample_id: entry for entry in entries}
    if like is not None:
        names = names_of(like)
        frame["sample_id"] = [names(name) for name in frame["sample_id"]]
        expected = {name: like.entry(name) for name in map(names, expected)}
    unknown = sorted(set(frame["sample_id"]) - set(expected))
    if unknown:
        raise InputError(f"{file} has intervals of {len(unknown)} unknown samples, among them {unknown[:5]}")
    by_sample = dict(iter(frame.groupby("sample_id")))

    def returned() -> Iterator[Returned]:
        for sample_id, entry in expected.items():
            rows = by_sample.get(sample_id, frame.iloc[:0])
            yield Returned(sample_id, _filled(rows, entry.size, file), entry)

    return collect(
        returned(),
        out,
        source=path,
        format="csv",
        like=like,
        name=manifest.name if manifest else name,
        provenance=manifest.provenance if manifest else None,
    )


def _table(file: Path) -> pd.DataFrame:
    with intact(file, "a CSV file of intervals", "export it again"):
        frame = pd.read_csv(file, dtype={"sample_id": str}, keep_default_na=False, encoding="utf-8-sig")
    missing = [column for column in COLUMNS if column not in frame]
    if missing:
        raise InputError(f"{file} lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    for column in COLUMNS[1:]:
        numbers = pd.to_numeric(frame[column], errors="coerce")
        wrong = frame.loc[~(numbers % 1 == 0), column]
        if len(wrong):
            raise InputError(f"{file}: {column} must be a whole number, not {wrong.iloc[0]!r}")
        frame[column] = numbers.astype(np.int64)
    return frame


def _filled(rows: pd.DataFrame, size: tuple[int, ...], file: Path) -> Mask:
    if len(size) != len(("leads", "time")):
        raise InputError(f"{file} holds intervals of signals (leads, time), not of samples of size {size}")
    mask = np.zeros(check_size(size), dtype=np.bool_)
    for sample_id, lead, start, stop in rows[list(COLUMNS)].itertuples(index=False):
        if not (0 <= lead < size[0] and 0 <= start < stop <= size[1]):
            raise InputError(
                f"{file} has lead {lead} from {start} to {stop} of {sample_id!r}, which has {size[0]} leads "
                f"of {size[1]} samples, both counted from 0"
            )
        mask[lead, start:stop] = True
    return mask


FORMAT = MaskFormat(export_csv, import_csv)
