"""What is kept of the images that were edited: a row each, and pictures of some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from shortcutscope.data.pictures import KINDS, sample_picture
from shortcutscope.pixels.effects import Direction, Scale
from shortcutscope.pixels.erasing import ChangesWithNull
from shortcutscope.pixels.scaled_images import ScaledImages
from shortcutscope.types import Array, Floats, Ints

#: Longest side of a picture that is kept.
SIDE = 256

#: Rows, with their images before and after.
Edits = Iterator[tuple[int, Floats, Floats]]


def edited_table(
    trials: Mapping[Direction, ChangesWithNull], sample_ids: Array, labels: Ints, scale: Scale | None
) -> pd.DataFrame:
    """A row an image and direction, see `shortcutscope.pixels.result.PixelTest`.

    Parameters
    ----------
    trials
        Direction to what was measured.
    sample_ids, labels
        (N,) of all samples.
    scale
        What changes are measured in; without one they stay in logits, beside the null of the image itself.
    """
    parts = []
    for direction, trial in trials.items():
        turn = np.nan if scale is None else scale.turn(direction)
        own, null = trial.own, trial.null
        # Of images alone there is no label to compare with, and the null is the image's own.
        by, at = (null.rows, own.rows) if scale is None else (labels[null.rows], labels[own.rows])
        shifts = pd.Series(null.after - null.before).groupby(by)
        part = pd.DataFrame(
            {
                "sample_id": sample_ids[own.rows],
                "label": labels[own.rows],
                "direction": direction,
                "before": own.before,
                "after": own.after,
                "shift": own.after - own.before,
                "null": pd.Series(at).map(shifts.mean()).to_numpy(),
                "null_sd": pd.Series(at).map(shifts.std()).to_numpy(),
                "change": turn * (own.after - own.before),
                "flips": (own.before > 0) != (own.after > 0),
            }
        )
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def edited_pictures(images: ScaledImages, edits: Iterable[tuple[Direction, Edits]]) -> dict[str, Array]:
    """Pictures of eight bits, of one size each; empty without edits."""
    value_range = images.table.value_range
    pairs, ids, directions = [], [], []
    for direction, some in edits:
        for row, before, after in some:
            both = [sample_picture(images.original(x).numpy(), value_range) for x in (before, after)]
            pairs.append([_small(picture) for picture in both])
            ids.append(str(images.table.frame["sample_id"].iloc[row]))
            directions.append(direction)
    if not pairs:
        return {}
    size = np.max([p[0].shape[:2] for p in pairs], axis=0)
    before, after = (np.stack([_padded(p[k], size) for p in pairs]) for k in (0, 1))
    return {
        "before": before,
        "after": after,
        "sample_ids": np.array(ids),
        "directions": np.array(directions),
        "kind": np.array(KINDS[images.dims]),
    }


def _small(picture: Array) -> Array:
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image.convert("RGB")) if picture.ndim == 3 else np.asarray(image)


def _padded(picture: Array, size: Array) -> Array:
    missing: Any = [(0, int(side - now)) for side, now in zip(size, picture.shape[:2], strict=True)]
    return np.pad(picture, [*missing, *((0, 0),) * (picture.ndim - 2)])
