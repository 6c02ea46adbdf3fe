"""Mined crops on a sheet and in a table, in which a person says which of them show what was marked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from shortcutscope.data.pictures import Picture
from shortcutscope.errors import InputError
from shortcutscope.files import write_atomically
from shortcutscope.retrieval.detecting.crops import HEIGHT, Crops
from shortcutscope.retrieval.detecting.detection import Kind
from shortcutscope.retrieval.places import EDGES

TABLE, SHEET = "crops.csv", "crops.png"
COLUMNS = ("crop", "kind", "sample_id", *EDGES, "searched", "keep")
#: Answers, in lower case.
YES, NO = ("1", "1.0", "yes", "y", "true", "x", "keep"), ("0", "0.0", "no", "n", "false", "drop")
#: Pixels between pictures, of the line with a crop's number, and of the column with a kind's.
GAP, LINE, MARGIN = 6, 14, 56


def write_crops(crops: Crops, folder: str | Path) -> Path:
    """Write the sheet of pictures and the table with an empty column ``keep``, into a folder.

    Raises
    ------
    InputError
        When the folder has a table that somebody has begun to fill.
    """
    folder = Path(folder)
    if is_answered(folder):
        raise InputError(f"{folder / TABLE} has answers: give another folder, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    frame = crops.frame.assign(crop=np.arange(len(crops.frame)), keep="")[list(COLUMNS)].round(1)
    buffer = io.BytesIO()
    sheet(crops).save(buffer, "PNG")
    write_atomically(folder / SHEET, lambda file: file.write(buffer.getvalue()))
    text = frame.to_csv(index=False)
    write_atomically(folder / TABLE, lambda file: file.write(text.encode()))
    return folder


def is_answered(folder: str | Path) -> bool:
    """Whether a folder has a table of crops in which something is kept or dropped."""
    path = Path(folder) / TABLE
    return path.exists() and bool(_read(path)["keep"].notna().any())


def read_kept(folder: str | Path, sample_ids: Sequence[str]) -> list[Kind]:
    """The crops that a person keeps: those with a yes, or with noes alone, the others that were searched for.

    Parameters
    ----------
    folder
        That :func:`write_crops` wrote, its table filled since.
    sample_ids
        Of the scan, in its order.

    Returns
    -------
    list
        Of each kind rows of the scan and boxes; empty where all are dropped.

    Raises
    ------
    InputError
        For a table without these columns or answers, or of samples that were not scanned.
    """
    path = Path(folder) / TABLE
    frame = _read(path)
    if not frame["keep"].notna().any():
        raise InputError(
            f"column keep of {path} is empty: write 1 beside the crops that show it, 0 beside others"
        )
    position = {str(name): row for row, name in enumerate(sample_ids)}
    unknown = [name for name in frame["sample_id"] if name not in position]
    if unknown:
        raise InputError(f"{path} names samples that were not scanned, for example {unknown[:5]}")
    yes = frame["keep"] == 1
    chosen = frame[yes if yes.any() else frame["keep"].isna() & (frame["searched"] == "True")]
    return [
        [
            (position[one["sample_id"]], (one["x0"], one["y0"], one["x1"], one["y1"]))
            for one in group.to_dict("records")
        ]
        for _, group in chosen.groupby("kind", sort=True)
    ]


def sheet(crops: Crops) -> Image.Image:
    """All crops, a row a kind, with the numbers that the table has."""
    kinds = crops.frame["kind"].to_numpy()
    rows = [np.flatnonzero(kinds == kind).tolist() for kind in range(len(crops))]
    wide = max(sum(crops.pictures[k].shape[1] + GAP for k in row) for row in rows)
    page = Image.new("RGB", (MARGIN + wide + GAP, GAP + len(rows) * (HEIGHT + LINE + GAP)), "white")
    draw = ImageDraw.Draw(page)
    for kind, row in enumerate(rows):
        top, left = GAP + kind * (HEIGHT + LINE + GAP), MARGIN
        draw.text((GAP, top + HEIGHT // 2 - 6), _name(crops, kind), fill="black")
        for number in row:
            picture = crops.pictures[number]
            page.paste(Image.fromarray(_colours(picture)), (left, top))
            draw.text((left + 2, top + HEIGHT + 1), str(number), fill="black")
            left += picture.shape[1] + GAP
    return page


def _name(crops: Crops, kind: int) -> str:
    return f"kind {kind}" if crops.is_searched(kind) else f"({kind})"


def _colours(picture: Picture) -> Picture:
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no crops ({error}); delete it, and retrieve again") from error
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise InputError(f"{path} lacks the columns {', '.join(missing)}; delete it, and retrieve again")
    words = frame["keep"].str.strip().str.lower()
    wrong = words[~words.isin([*YES, *NO, ""])]
    if len(wrong):
        raise InputError(f"column keep of {path} holds {wrong.iloc[0]!r}; allowed are 1, 0 and nothing")
    frame["keep"] = np.where(words.isin(YES), 1.0, np.where(words.isin(NO), 0.0, np.nan))
    try:
        numbers = frame[["kind", *EDGES]].astype(float)
    except ValueError as error:
        raise InputError(f"{path}: kinds and edges must be numbers ({error})") from error
    frame[["kind", *EDGES]] = numbers
    return frame
