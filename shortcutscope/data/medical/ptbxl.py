"""PTB-XL: 12-lead electrocardiograms with diagnoses, of Wagner et al. (Scientific Data 7, 154, 2020)."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import numpy as np
import pandas as pd

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.medical.layout import DatasetLayout
from shortcutscope.data.table import ImageTable, TableOptions
from shortcutscope.errors import InputError

__all__ = ["LAYOUT", "LEADS", "QUALITY", "ptbxl"]

LAYOUT = DatasetLayout(
    "PTB-XL",
    (
        "ptbxl_database.csv (ecg_id, patient_id, scp_codes, strat_fold, filename_lr, filename_hr, ...)",
        "scp_statements.csv (the code, diagnostic, diagnostic_class, diagnostic_subclass, ...)",
        "records100/00000/00001_lr.{dat,hea}",
        "records500/00000/00001_hr.{dat,hea}",
    ),
    "https://physionet.org/content/ptb-xl/",
)

#: Channels of each signal, in the order of the files.
LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")

#: Columns in which the annotators wrote what disturbs a signal, mostly the leads it is seen in.
QUALITY = (
    "baseline_drift",
    "static_noise",
    "burst_noise",
    "electrodes_problems",
    "extra_beats",
    "pacemaker",
)

Level = Literal["class", "subclass", "code"]

_FILES = {100: "filename_lr", 500: "filename_hr"}
_SPLITS = {**dict.fromkeys(range(1, 9), "train"), 9: "val", 10: "test"}
#: What 16 bits hold at the files' resolution of one microvolt, in millivolt.
_RANGE = (-32.768, 32.767)


def ptbxl(
    root: str | Path,
    *,
    target: str = "HYP",
    level: Level | None = None,
    likelihood: float = 0.0,
    sampling_rate: int = 100,
    **options: Unpack[TableOptions],
) -> ImageTable:
    """PTB-XL, one diagnosis against the rest; images are the signals (12, samples) in millivolt.

    Channels are the leads in the order of `LEADS`. Folds 1 to 8 are the split train, 9 val and 10 test, as
    the authors have it; groups are the patients. All columns of ``ptbxl_database.csv`` but the file names
    are metadata. Of them ``sex`` is 0 for men and 1 for women, and ``age`` is 300 for all who are older than
    89: leave them out or cap the column before you take a mean. The columns of `QUALITY` are 0 or 1, whether
    the annotators wrote anything, and missing where they wrote a question mark; what they wrote is in
    ``<column>_text``. A column of 0 and 1 for each diagnostic superclass but the target is added.

    Parameters
    ----------
    root
        Folder with ``ptbxl_database.csv``.
    target
        Whose label is 1: a diagnostic superclass (``"HYP"``), subclass or SCP code (``"LVH"``).
    level
        As what `target` is read where a name is several of them (``STTC`` is a superclass and a subclass);
        None takes the first of superclass, subclass and code.
    likelihood
        Least likelihood in percent that the annotators gave the statement. The data set writes 0 also where
        the likelihood is unknown, so that only 0 takes every statement.
    sampling_rate
        100 or 500 Hz, that is 1000 or 5000 samples.
    **options
        See :class:`shortcutscope.data.table.TableOptions`. `value_range` is, if it is not given, what the
        files can hold, -32.768 to 32.767 mV.

    Raises
    ------
    InputError
        For an unknown target, level or sampling rate, and when the folder is not laid out as expected.
    """
    if sampling_rate not in _FILES:
        raise InputError(f"sampling_rate must be 100 or 500, not {sampling_rate!r}")
    database = LAYOUT.file(root, "ptbxl_database.csv")
    needed = ["ecg_id", "patient_id", "scp_codes", "strat_fold", _FILES[sampling_rate]]
    frame = LAYOUT.table(root, database, needed, text=list(_FILES.values()))
    statements = _statements(root)
    carriers = _carriers(statements, target, level)
    codes = _codes(root, frame["scp_codes"])
    records = [f"{name}.hea" for name in frame[_FILES[sampling_rate]].astype(str)]
    _refuse_missing(root, records)
    frame = _with_quality(frame.drop(columns=[name for name in _FILES.values() if name in frame]))
    frame = frame.assign(
        **_superclasses(statements, codes, carriers, likelihood),
        image=records,
        label=_labels(codes, carriers, likelihood),
        split=_splits(root, frame["strat_fold"]),
    )
    options.setdefault("value_range", _RANGE)
    options.setdefault("classes", [f"no {target}", target])
    return ImageTable.from_frame(frame, sample_id="ecg_id", group="patient_id", root=root, **options)


def _superclasses(
    statements: pd.DataFrame, codes: list[Mapping[str, float]], carriers: set[str], likelihood: float
) -> dict[str, np.ndarray]:
    """A column for each diagnostic superclass but the target."""
    members = {
        name: set(statements.index[statements["diagnostic_class"] == name])
        for name in statements["diagnostic_class"].dropna().unique()
    }
    return {name: _labels(codes, part, likelihood) for name, part in members.items() if part != carriers}


def _statements(root: str | Path) -> pd.DataFrame:
    """Diagnostic statements by their SCP code."""
    path = LAYOUT.file(root, "scp_statements.csv")
    frame = LAYOUT.table(root, path, ["diagnostic", "diagnostic_class", "diagnostic_subclass"])
    return frame.set_index(frame.columns[0])


def _carriers(statements: pd.DataFrame, target: str, level: Level | None) -> set[str]:
    """SCP codes that make a target."""
    levels = get_args(Level)
    if level is not None and level not in levels:
        raise InputError(f"level must be {', '.join(map(repr, levels))} or None, not {level!r}")
    names = {
        "class": statements["diagnostic_class"],
        "subclass": statements["diagnostic_subclass"],
        "code": statements.index.to_series(),
    }
    for tried in levels if level is None else (level,):
        codes = set(statements.index[(names[tried] == target).to_numpy()])
        if codes:
            return codes
    names_known = [name for tried in levels for name in sorted(set(names[tried].dropna()))]
    where = "statements" if level is None else f"{level} names"
    raise InputError(
        f"no {target!r} among the {where} of PTB-XL; superclasses, subclasses and codes are "
        f"{quoted(list(dict.fromkeys(names_known)), len(names_known))}"
    )


def _codes(root: str | Path, texts: pd.Series) -> list[Mapping[str, float]]:
    """Likelihood in percent by SCP code, of each record."""
    parsed: list[Mapping[str, float]] = []
    for row, text in enumerate(texts):
        try:
            codes: Any = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError):
            codes = None
        if not isinstance(codes, dict):
            raise LAYOUT.error(root, f"scp_codes in row {row} of ptbxl_database.csv is no mapping: {text!r}")
        parsed.append(codes)
    return parsed


def _labels(codes: list[Mapping[str, float]], carriers: set[str], likelihood: float) -> np.ndarray:
    return np.array(
        [int(any(code in carriers and row[code] >= likelihood for code in row)) for row in codes],
        dtype=np.int64,
    )


def _splits(root: str | Path, folds: pd.Series) -> list[str]:
    odd = sorted({str(fold) for fold in folds if fold not in _SPLITS})
    if odd:
        raise LAYOUT.error(root, f"strat_fold must be 1 to 10, and has {quoted(odd)}")
    return [_SPLITS[int(fold)] for fold in folds]


def _with_quality(frame: pd.DataFrame) -> pd.DataFrame:
    present = [name for name in QUALITY if name in frame]
    texts = {f"{name}_text": frame[name].astype(object) for name in present}
    return frame.assign(**{name: _noted(frame[name]) for name in present}, **texts)


def _noted(texts: pd.Series) -> pd.Series:
    """1 where something is written, 0 where nothing is, missing where it is questioned."""
    text = texts.astype(object).where(texts.notna(), "").astype(str).str.strip(" ,")
    noted = (text != "").astype(np.int64)
    questioned = text.str.contains("?", regex=False)
    return noted.astype(float).mask(questioned) if questioned.any() else noted


def _refuse_missing(root: str | Path, records: list[str]) -> None:
    files = [name for record in records for name in (record, record.removesuffix("hea") + "dat")]
    missing = [name for name in files if not Path(root, name).is_file()]
    if missing:
        raise LAYOUT.error(root, f"{len(missing)} of its {len(files)} files are missing: {quoted(missing)}")
