"""What the four borders of an image look like: frames, collimation, margins of a digitised print.

Lines parallel to each side are followed inwards. A frame is flat along them and ends in a straight step.
Which side has it says little, and ten marks cannot cover all four: so each figure is sorted over the sides.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional

from shortcutscope.types import Floats

#: Side of the small image that borders are read from, how far inwards lines are followed, and how much of
#: their ends is left out.
SIDE, DEPTH, ENDS = 128, 0.35, 0.1
#: Brightness, spread along a line, and share of a line alike to the outermost one, up to which it is of a
#: frame.
DARK, FLAT, ALIKE = (0.06, 0.12, 0.2), (0.02, 0.05, 0.1), 0.05
#: Distance of the lines between which a step is measured, in lines.
STEP = 2
_PARTS = 5


def border_features(grey: Tensor) -> Floats:
    """About seventy figures of an image.

    Parameters
    ----------
    grey
        ``(1, H, W)`` from 0 to 1.
    """
    small = functional.interpolate(grey[None], size=(SIDE, SIDE), mode="area")[0, 0].numpy()
    sides = np.array([_side(view) for view in (small, small[::-1], small.T, small.T[::-1])])
    ordered = -np.sort(-sides, axis=0)
    opposite = [sides[:2].max(0), sides[2:].max(0), sides[:2].min(0), sides[2:].min(0)]
    return np.concatenate([ordered[0], ordered[1], sides.mean(0), *opposite])


def _side(image: Floats) -> Floats:
    """Figures of the upper border."""
    ends = round(ENDS * image.shape[1])
    lines = image[: round(DEPTH * image.shape[0]), ends:-ends]
    upper, middle, spread = np.quantile(lines, 0.8, 1), np.median(lines, 1), lines.std(1)
    width = [_first(upper > level) for level in DARK]
    width += [_first(np.minimum.accumulate(-spread) < -level) for level in FLAT]
    width.append(_first(np.abs(lines - middle[:1, None]).mean(1) > ALIKE))
    step = lines[STEP:] - lines[:-STEP]
    size, mean = np.abs(step.mean(1)), step.mean(1)
    straight = size / (step.std(1) + 0.02)
    inner = slice(2, None)
    parts = np.stack(
        [np.abs(part.mean(1)) / (part.std(1) + 0.02) for part in np.array_split(step, _PARTS, 1)]
    )
    at = int(straight[inner].argmax())
    step_figures = [size[inner].max(), straight[inner].max(), at / len(straight), max(0.0, mean[inner].max())]
    step_figures += [float(np.sort(parts, 0)[1][inner].max()), float(size[inner].argmax()) / len(size)]
    levels = [
        middle[:3].mean(),
        spread[:3].mean(),
        spread[: at + 3].mean(),
        middle[min(at + 5, len(middle) - 1) :].mean() - middle[: at + 3].mean(),
    ]
    return np.array([*width, *step_figures, *levels], np.float64)


def _first(hit: np.ndarray) -> float:
    """Share of the depth before the first line that is none of a frame."""
    return float(hit.argmax() if hit.any() else len(hit)) / len(hit)
