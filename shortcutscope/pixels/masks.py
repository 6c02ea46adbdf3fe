"""The pixels that carry a concept, of each image as the table reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from shortcutscope.data.sample_geometry import mask_geometry
from shortcutscope.data.sample_names import as_ids
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import Bools

#: From a row of a table to the mask of its image before the transform, (*spatial), or of a signal
#: (leads, time); None where there is none.
ImageMasks = Callable[[int], Bools | None]
#: What covers more of an image than this cannot be filled from what lies around it.
LARGEST = 0.5


def image_masks(masks: MaskSet | str | Path, table: ImageTable) -> ImageMasks:
    """Masks that were drawn, on the images before the transform.

    A sample whose mask was not drawn, was rejected, is empty, or covers more than half of its image has None.

    Parameters
    ----------
    masks
        A set, or its folder.
    table
        Of the images.

    Raises
    ------
    InputError
        When none of the masks is of a sample of this table, or the folder holds no masks.
    """
    mask_set = masks if isinstance(masks, MaskSet) else MaskSet.open(masks)
    ids = table.frame["sample_id"].astype(str).tolist()
    if set(ids).isdisjoint(mask_set.sample_ids):  # masks that go by their images' names
        files = table.files
        ids = as_ids((files.get(name, name) for name in ids), mask_set.sample_ids)
    if not any(name in mask_set for name in ids):
        raise InputError(
            f"none of the {len(mask_set)} masks in {mask_set.folder} is of one of these {len(ids)} samples"
        )
    untransformed = table.with_transform(None)

    def mask(row: int) -> Bools | None:
        if ids[row] not in mask_set:
            return None
        entry = mask_set.entry(ids[row])
        if entry.accepted is False or entry.empty:
            return None
        return usable(mask_geometry(untransformed, row).from_source(mask_set.mask(ids[row])))

    return mask


def usable(mask: Bools | None) -> Bools | None:
    """A mask that holds something, and at most half of its image; else None."""
    if mask is None:
        return None
    mask = np.asarray(mask, bool)
    return mask if 0 < mask.mean() <= LARGEST else None
