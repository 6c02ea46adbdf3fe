"""Two tables as one, for training on the samples of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from shortcutscope.data.sources import ImageSource
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError

__all__ = ["JoinedSource", "joined"]


@dataclass(frozen=True, eq=False)
class JoinedSource:
    """The images of one source, then those of another."""

    first: ImageSource
    second: ImageSource

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def read(self, i: int) -> np.ndarray | Tensor:
        """Image `i` in its stored type."""
        source, row = self.origin(i)
        return source.read(row)

    def identity(self, i: int) -> str:
        """As the source that image `i` is from says."""
        source, row = self.origin(i)
        return source.identity(row)

    def origin(self, i: int) -> tuple[ImageSource, int]:
        """The source that image `i` is from, and its number there."""
        split = len(self.first)
        return (self.first, i) if i < split else (self.second, i - split)

    def over(self, change: Callable[[ImageSource], ImageSource]) -> JoinedSource:
        """The images of both sources, each changed."""
        return JoinedSource(change(self.first), change(self.second))


def joined(first: ImageTable, second: ImageTable) -> ImageTable:
    """One table of the rows of two, with the roles and without metadata.

    Raises
    ------
    InputError
        When a sample is in both, or value ranges or transforms differ.
    """
    both = set(first.frame["sample_id"]) & set(second.frame["sample_id"])
    if both:
        raise InputError(
            f"{len(both)} samples are in both tables, for instance {min(both)!r}; take the clean samples "
            "out of the biased ones"
        )
    if first.value_range != second.value_range:
        raise InputError(
            f"the tables' value ranges are {first.value_range} and {second.value_range}; read both with the "
            "same"
        )
    if first.transform_fingerprint() != second.transform_fingerprint():
        raise InputError("the tables have different transforms; give both the same, with with_transform")
    roles = ["sample_id", "label", "group", "split"]
    frame = pd.concat([first.frame[roles], second.frame[roles]], ignore_index=True)
    return ImageTable(
        frame,
        JoinedSource(first.source, second.source),
        rows=np.concatenate([first.rows, second.rows + len(first.source)]),
        value_range=first.value_range,
        transform=first.transform,
        classes=first.classes,
        notes=(*first.notes, *second.notes),
    )
