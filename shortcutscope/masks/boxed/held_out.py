"""How well masks do on the marked images, each drawn by what was taught without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from shortcutscope.files import read_json, write_json
from shortcutscope.masks.mask_files import Mask

#: Beside the masks.
FILE = "held_out.json"
#: What draws masks.
BOXES, EVIDENCE = "boxes", "evidence"


@dataclass(frozen=True)
class HeldOutFigures:
    """Figures of marked images whose own marks took no part.

    Attributes
    ----------
    carriers, carriers_drawn
        Marked carriers with boxes, and those that got a mask.
    others, others_drawn
        The same of those marked as free of it.
    elements, elements_touched
        Boxes, and those in which something is drawn.
    inside
        Mean share of a mask's area that lies in the boxes, over the carriers that got one.
    null
        Unmarked images that the null was read from.
    way
        What drew them: ``"boxes"``, or the ``"evidence"`` of a finding.
    rival
        What is said of the other way.
    """

    carriers: int
    carriers_drawn: int
    others: int
    others_drawn: int
    elements: int
    elements_touched: int
    inside: float | None
    null: int
    way: str = BOXES
    rival: str = ""

    def counts(self) -> str:
        """The figures in words."""
        text = f"{self.carriers_drawn} of {self.carriers} carriers got a mask"
        if self.others:
            text += f", {self.others_drawn} of {self.others} others did"
        text += f"; {self.elements_touched} of {self.elements} boxes are touched"
        return text if self.inside is None else f"{text}, {self.inside:.0%} of the drawn area lies in boxes"

    def __str__(self) -> str:
        drawn = "what the boxes taught" if self.way == BOXES else "the evidence of the finding"
        text = f"checked on the marked images, each drawn without its own marks by {drawn}: {self.counts()}"
        return f"{text}. {self.rival}" if self.rival else text

    def save(self, folder: Path) -> None:
        """Keep it beside the masks."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def open(cls, folder: Path) -> HeldOutFigures | None:
        """What :meth:`save` kept; None where there is nothing."""
        path = folder / FILE
        return cls(**read_json(path)) if path.exists() else None


def held_out(
    carriers: Sequence[tuple[Mask, Sequence[Sequence[float]]]], others: Sequence[Mask], null: int
) -> HeldOutFigures:
    """Count.

    Parameters
    ----------
    carriers
        Mask and boxes of each marked carrier.
    others
        Masks of those that are marked as free of it.
    null
        Images that the null was read from.
    """
    touched, elements = 0, 0
    inside = []
    for mask, boxes in carriers:
        allowed = np.zeros_like(mask)
        for x0, y0, x1, y1 in boxes:
            part = np.s_[int(max(0, y0)) : int(np.ceil(y1)), int(max(0, x0)) : int(np.ceil(x1))]
            allowed[part] = True
            touched += bool(mask[part].any())
            elements += 1
        if mask.any():
            inside.append(float((mask & allowed).sum() / mask.sum()))
    return HeldOutFigures(
        len(carriers),
        len(inside),
        len(others),
        sum(bool(mask.any()) for mask in others),
        elements,
        touched,
        float(np.mean(inside)) if inside else None,
        null,
    )
