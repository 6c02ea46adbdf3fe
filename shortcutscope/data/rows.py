"""What those who look at a table's samples one by one know of it."""

from __future__ import annotations

from typing import Protocol

import pandas as pd
from torch import Tensor

from shortcutscope.data.sources import ImageSource
from shortcutscope.data.transform import Transform
from shortcutscope.types import Ints


class Rows(Protocol):
    """A table of samples, as `shortcutscope.data.samples.SampleTable`."""

    frame: pd.DataFrame
    source: ImageSource
    rows: Ints
    value_range: tuple[float, float]
    transform: Transform | None
    workers: int | None

    def __len__(self) -> int: ...

    def image(self, i: int) -> Tensor:
        """Row `i` in its value range, before the transform."""
        ...

    def mask(self, i: int) -> Tensor | None:
        """Mask of row `i`; None where it has none."""
        ...

    def transformed(self, image: Tensor) -> Tensor:
        """An image as the model gets it."""
        ...

    @property
    def files(self) -> dict[str, str]:
        """Sample id to the name of its file."""
        ...
