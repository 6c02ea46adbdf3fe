"""Whether the grey values of a table's DICOM files mean the same in all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shortcutscope.data.readers.dicom import dicom_grey_values
from shortcutscope.data.readers.dicom_values import GreyValues, LookupTable, display_text
from shortcutscope.data.readers.dicom_window import CHOICES

#: Share of the bits' range below which a table without windows is black, or grey, all over: three bits.
LEAST_SHARE = 1 / 8
_SHOWN = 3


@dataclass(frozen=True)
class GreyScale:
    """What black to white stands for in one file that is shown as it asks.

    Attributes
    ----------
    window
        That it names, in words; empty where it names none.
    rescale
        Without a window: how stored numbers become physical values, in words.
    common
        Whether a physical value means the same in every file (CT, PET).
    """

    window: str
    rescale: str
    common: bool


def grey_scale(path: Path) -> GreyScale | None:
    """Scale of a DICOM file, from its header; None for colours and for what cannot be read."""
    with contextlib.suppress(Exception):  # what is wrong with the file is said where its pixels are read
        frames = dicom_grey_values(path)
        if frames:
            first = frames[0]
            window = "" if first.display is None else _named(first)
            return GreyScale(window, "" if window else _rescale(first), first.common)
    return None


def _named(values: GreyValues) -> str:
    assert values.display is not None
    if isinstance(values.display, LookupTable):
        return f"{display_text(values.display)} from {values.display.first}"
    return display_text(values.display)


def _rescale(values: GreyValues) -> str:
    if values.table is not None:
        return f"a table of {len(values.table.entries)} entries"
    return f"slope {values.slope:g} and intercept {values.intercept:g}"


def scale_problems(
    ids: Sequence[str], scales: Mapping[int, GreyScale], spans: Mapping[int, tuple[float, float]]
) -> list[str]:
    """One sentence per reason for which grey values of the files cannot be compared.

    Parameters
    ----------
    ids
        Sample ids of a table, whose files are shown as they ask.
    scales
        Of its DICOM files, by row.
    spans
        Lowest and highest value of their images, as shares of black to white, by row.
    """
    windows = {row: scale for row, scale in scales.items() if scale.window}
    none = {row: scale for row, scale in scales.items() if not scale.window}
    if windows and none:
        return [
            f"{len(windows)} DICOM file(s) name a window ({_some(ids, windows)}) and {len(none)} do not "
            f'({_some(ids, none)}), so that one value has two greys; {CHOICES}, or window="bits" '
            "(--window bits) for the full range of each file's bits"
        ]
    common = {row: scale for row, scale in scales.items() if scale.common}
    texts = []
    if len({scale.window for scale in common.values()}) > 1:
        texts.append(
            "CT or PET files name different windows, so that one value has several greys: "
            f"{_differ(ids, {row: scale.window for row, scale in common.items()})}; {CHOICES}"
        )
    if len({scale.rescale for scale in none.values()}) > 1:
        texts.append(
            "DICOM files without a window are rescaled in different ways, so that one value has several "
            f"greys: {_differ(ids, {row: scale.rescale for row, scale in none.items()})}; {CHOICES}"
        )
    used = [spans[row] for row in none if row in spans]
    if used and not texts:
        share = max(high for _, high in used) - min(low for low, _ in used)
        if 0 < share < LEAST_SHARE:
            texts.append(
                f"{len(used)} DICOM file(s) name no window, and of the range that their bits can hold all "
                f"images together use {share:.1%}, so that they have hardly any contrast "
                f"({_some(ids, none)}); {CHOICES}"
            )
    return texts


def _some(ids: Sequence[str], rows: Mapping[int, object]) -> str:
    examples = ", ".join(repr(ids[row]) for row in list(rows)[:_SHOWN])
    return examples + " ..." * (len(rows) > _SHOWN)


def _differ(ids: Sequence[str], texts: Mapping[int, str]) -> str:
    first: dict[str, int] = {}
    for row, text in texts.items():
        first.setdefault(text, row)
    examples = ", ".join(f"{text} ({ids[row]!r})" for text, row in list(first.items())[:_SHOWN])
    return examples + " ..." * (len(first) > _SHOWN)
