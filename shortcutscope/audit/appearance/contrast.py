"""The contrast sheet of a finding: carriers beside others of their label, and the means of both sides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from shortcutscope.data.pictures import Kind
from shortcutscope.disk import intact
from shortcutscope.types import Floats, Record

FOLDER = "contrast"


def no_patches() -> npt.NDArray[np.uint8]:
    """Of a finding that is not confined to a part of images."""
    return np.zeros((0, 0, 0), np.uint8)


@dataclass(frozen=True, eq=False)
class ContrastSheet:
    """Pictures of both sides of a finding.

    Attributes
    ----------
    carriers, others : ndarray
        (K, H, W) or (K, H, W, 3) uint8: carriers, and beside each the nearest sample of its label without it;
        black where there is none. Of volumes one slice, of signals traces.
    carrier_ids, other_ids : tuple of str
        Of these; ``""`` where there is none.
    labels : ndarray
        (K,) of each pair.
    mean_carriers, mean_others : ndarray
        (h, w) or (h, w, 3) of images and volumes, in shares of the value range; (leads, time) of signals.
        Labels count alike on both sides. Of size 0 where one side is empty.
    kind : str
        ``"image"``, ``"volume"`` or ``"signal"``.
    cut : str
        Of volumes which slice: the one in which the means differ most.
    carrier_patches, other_patches : ndarray
        (K, h, w) or (K, h, w, 3) uint8: of images with a finding that is confined to a part, that part of
        each picture. Of size 0 elsewhere.
    """

    carriers: npt.NDArray[np.uint8]
    others: npt.NDArray[np.uint8]
    carrier_ids: tuple[str, ...]
    other_ids: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    mean_carriers: Floats
    mean_others: Floats
    kind: Kind = "image"
    cut: str = ""
    carrier_patches: npt.NDArray[np.uint8] = field(default_factory=no_patches)
    other_patches: npt.NDArray[np.uint8] = field(default_factory=no_patches)

    @property
    def has_both(self) -> bool:
        """Whether there are means of both sides."""
        return bool(self.mean_carriers.size and self.mean_others.size)

    @property
    def difference(self) -> Floats:
        """Mean of the carriers less that of the others: (h, w), of colours their mean; (leads, time)."""
        difference = self.mean_carriers.astype(np.float32) - self.mean_others.astype(np.float32)
        return difference.mean(-1) if difference.ndim == 3 else difference

    def arrays(self) -> Record:
        """What is kept of it."""
        return {
            "carriers": self.carriers,
            "others": self.others,
            "carrier_ids": np.array(self.carrier_ids, np.str_),
            "other_ids": np.array(self.other_ids, np.str_),
            "labels": self.labels,
            "mean_carriers": self.mean_carriers.astype(np.float16),
            "mean_others": self.mean_others.astype(np.float16),
            "kind": np.array(self.kind),
            "cut": np.array(self.cut),
            "carrier_patches": self.carrier_patches,
            "other_patches": self.other_patches,
        }

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a contrast sheet that an audit wrote.

        Raises
        ------
        InputError
            When the file is damaged.
        """
        damaged = intact(path, "a contrast sheet", "delete it and run the same audit again")
        with damaged, np.load(path, allow_pickle=False) as stored:
            kind: Kind = stored["kind"].item()
            return cls(
                stored["carriers"],
                stored["others"],
                tuple(stored["carrier_ids"].tolist()),
                tuple(stored["other_ids"].tolist()),
                stored["labels"].astype(np.int64),
                stored["mean_carriers"].astype(np.float32),
                stored["mean_others"].astype(np.float32),
                kind,
                stored["cut"].item(),
                stored["carrier_patches"],
                stored["other_patches"],
            )
