"""Masks of an artifact, brought to the pixels of the model's input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shortcutscope.data.sample_names import as_ids
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.planting.planting import artifact_mask

InputMasks = Callable[[int], Tensor | None]


def input_masks(masks: MaskSet, table: ImageTable) -> InputMasks:
    """From a row of a table to the drawn mask of its image, as the model's input has it.

    A sample whose mask was not drawn, was rejected, or is empty has None.

    Raises
    ------
    InputError
        When none of the masks is of a sample of this table.

    Examples
    --------
    >>> student = ss.debias(
    ...     model, train, shortcut=ss.Shortcut(concept="tag", masks=ss.input_masks(masks, train))
    ... )  # doctest: +SKIP
    """
    ids = table.frame["sample_id"].astype(str).tolist()
    if set(ids).isdisjoint(masks.sample_ids):  # masks that go by their images' names
        files = table.files
        ids = as_ids((files.get(name, name) for name in ids), masks.sample_ids)
    if not any(name in masks for name in ids):
        raise InputError(
            f"none of the {len(masks)} masks is of one of the {len(ids)} training samples (by sample id); "
            "draw masks of the training images, for example by auditing them with trained_on=True"
        )

    def mask(row: int) -> Tensor | None:
        if ids[row] not in masks or masks.entry(ids[row]).accepted is False:
            return None
        pixels = masks.mask(ids[row])
        if not pixels.any():
            return None
        return torch.from_numpy(table.geometry(row).from_source(pixels).astype(bool))

    return mask


def planted_masks(table: ImageTable, column: str) -> InputMasks:
    """The same of an artifact that was planted: exactly the visible pixels."""

    def mask(row: int) -> Tensor | None:
        pixels = artifact_mask(table, row, column)
        if not pixels.any():
            return None
        return torch.from_numpy(table.geometry(row).from_source(pixels).astype(bool))

    return mask
