"""The masks of a run as plain data: how many, of what, and what they look like."""

from __future__ import annotations

from pathlib import Path

from shortcutscope.errors import InputError
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.show.parts import picture_uri
from shortcutscope.types import Record

FOLDER = "masks"


def summarize_masks(run: Path) -> list[Record]:
    """Every set of masks in a run: ``name``, ``facts``, ``text`` and ``pictures`` (``src``, ``caption``).

    One that is damaged says so in ``text``, and does not stop the report.
    """
    folder = run / FOLDER
    sets = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return [_summary(path) for path in sets]


def _summary(path: Path) -> Record:
    try:
        masks = MaskSet.open(path)
        pictures = [
            {"src": picture_uri(picture), "caption": caption.replace("\n", ", ")}
            for picture, caption in masks.silhouettes()
        ]
    except InputError as error:
        return {"name": path.name, "facts": [], "text": str(error), "pictures": []}
    facts = [{"label": label, "value": value} for label, value in masks.facts()]
    return {"name": masks.name, "facts": facts, "text": "", "pictures": pictures}
