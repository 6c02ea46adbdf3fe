"""Images before and after an intervention, as files with a manifest: for debiasing, and for the eye."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError
from shortcutscope.files import slug, write_atomically
from shortcutscope.pixels.effects import Direction
from shortcutscope.pixels.scaled_images import ScaledImages
from shortcutscope.types import Array, Floats

#: One image of a pair: row, what was done, before and after.
Pair = tuple[int, Direction, Floats, Floats]
MANIFEST = "pairs.csv"


def write_pairs(folder: Path, images: ScaledImages, concept: str, pairs: Iterable[Pair]) -> Path:
    """Write both images of each pair and ``pairs.csv``.

    Two-dimensional images become PNG, grey ones of 16 bits, colours of 8, from black to white of the table's
    value range; signals and volumes ``.npy`` in the value range. The manifest has a row an image: ``image``,
    ``sample_id``, ``label``, ``group``, ``split`` of the original where it has one, ``pair`` (the original's
    id), ``edited`` (0 or 1), and the concept's value in the image's pixels.

    Returns
    -------
    Path
        Of the manifest.

    Raises
    ------
    InputError
        A folder that holds something else.
    """
    refuse_used(folder)
    require_writable(folder)
    rows = []
    frame = images.table.frame
    for row, direction, before, after in pairs:
        sample_id = str(frame["sample_id"].iloc[row])
        present = 1 if direction == "without" else 0
        for edited, image in enumerate((before, after)):
            name = f"{slug(sample_id)}-{('as-it-is', direction)[edited]}"
            file = _write(folder, name, images, image)
            rows.append(
                {
                    "image": file,
                    "sample_id": f"{sample_id}-{direction}" if edited else sample_id,
                    "label": frame["label"].iloc[row],
                    "group": frame["group"].iloc[row],
                    "split": frame["split"].iloc[row],
                    "pair": sample_id,
                    "edited": edited,
                    concept: 1 - present if edited else present,
                }
            )
    text = pd.DataFrame(rows).to_csv(index=False)
    write_atomically(folder / MANIFEST, lambda file: file.write(text.encode()))
    return folder / MANIFEST


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds something, before any work.

    Raises
    ------
    InputError
        Says what to do.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} is a file, or not empty: give a new folder for the pairs")


def _write(folder: Path, name: str, images: ScaledImages, image: Floats) -> str:
    if image.ndim != 3 or len(image) not in (1, 3):
        values = images.original(image).numpy()
        write_atomically(folder / f"{name}.npy", lambda file: np.save(file, values, allow_pickle=False))
        return f"{name}.npy"
    picture = _coded(np.clip(image, 0, 1))
    write_atomically(folder / f"{name}.png", lambda file: picture.save(file, format="PNG"))
    return f"{name}.png"


def _coded(image: Array) -> Image.Image:
    if len(image) == 1:
        return Image.fromarray(np.rint(image[0] * 65535).astype(np.uint16))
    return Image.fromarray(np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8))
