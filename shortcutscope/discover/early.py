"""What can be seen of the samples before the network has mixed it with the label."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.filters import image_bank, refusal
from shortcutscope.options import Running
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Floats, Ints

#: Of the progress of a search, what reading the images is taken for.
READING = 0.5


@dataclass(frozen=True, eq=False)
class EarlyFeatures:
    """What can be seen of the samples before the network has mixed it with the label.

    Attributes
    ----------
    values
        (N, F) responses of the filter bank, where the input has one, and features of the first layer.
    n_bank
        How many of the F are the bank's.
    note
        Why there is no bank; empty where there is one.
    """

    values: Floats
    n_bank: int
    note: str = ""

    def take(self, rows: Ints) -> EarlyFeatures:
        """Of some samples."""
        return replace(self, values=self.values[rows])


def early_features(scan: Scan, table: ImageTable, running: Running) -> EarlyFeatures:
    """Read the images once, in the batches and by the workers of `running`."""
    first = scan.features(scan.layers[0])
    reason = refusal(table.shape)
    if reason is not None:
        return EarlyFeatures(first, 0, reason)
    bank = image_bank(
        table,
        flat=True,
        batch_size=running.batch_size,
        workers=running.workers,
        progress=running.progress,
        taken_for=READING,
    ).values
    return EarlyFeatures(np.concatenate([bank, first], axis=1), bank.shape[1])
