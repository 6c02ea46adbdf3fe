"""Boxes or the evidence of a finding: whichever draws the marked images better, taught without them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shortcutscope.errors import InputError
from shortcutscope.masks.boxed.held_out import EVIDENCE, HeldOutFigures, held_out
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.retrieval.detecting.detection import Where

#: By how much the evidence has to be better: few marks tell small differences apart badly.
MARGIN = 0.1

#: Draws masks of some samples into a folder.
Drawer = Callable[[Sequence[str], Path], MaskSet]


@dataclass(frozen=True, eq=False)
class Rival:
    """The evidence of the input and the network, where a finding has any.

    Attributes
    ----------
    draw
        Masks of samples by evidence that other patients taught.
    """

    draw: Drawer

    def check(
        self, boxes: Mapping[str, Sequence[Sequence[float]]], others: Sequence[str]
    ) -> HeldOutFigures | str:
        """Figures of the marked images, as `HeldOutFigures` has them; or why the evidence draws nothing."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                masks = self.draw([*boxes, *others], Path(folder) / "masks")
            except InputError as error:
                return str(error)
            carriers = [(masks.mask(name), several) for name, several in boxes.items()]
            return held_out(carriers, [masks.mask(name) for name in others], 0)


def quality(figures: HeldOutFigures) -> float:
    """Harmonic mean of how much is found and how much of it is right, less what others got."""
    touched = figures.elements_touched / max(1, figures.elements)
    inside = figures.inside or 0.0
    false = figures.others_drawn / figures.others if figures.others else 0.0
    return 2 * touched * inside / max(touched + inside, 1e-9) * (1 - false)


def compared(rival: Rival, boxes: HeldOutFigures, where: Where, ids: Sequence[str]) -> HeldOutFigures:
    """Figures of the better way, with a sentence on the other one."""
    by_name = {ids[row]: several for row, several in where.boxes.items()}
    evidence = rival.check(by_name, [ids[row] for row in where.others])
    if isinstance(evidence, str):
        return replace(boxes, rival=f"By the evidence of the finding nothing was drawn: {evidence}")
    if quality(evidence) > quality(boxes) + MARGIN:
        return replace(evidence, way=EVIDENCE, rival=f"By what the boxes taught: {boxes.counts()}")
    return replace(boxes, rival=f"By the evidence of the finding: {evidence.counts()}")
