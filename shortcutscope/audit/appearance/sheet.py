"""From what was looked at to the contrast sheet of one finding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from shortcutscope.audit.appearance.choice import NearestPair
from shortcutscope.audit.appearance.contrast import ContrastSheet, no_patches
from shortcutscope.audit.appearance.looking import SHOWN_SIDE, Looks
from shortcutscope.data.pictures import as_picture
from shortcutscope.types import JSON, Array, Floats, Ints

#: Cells whose AUROC is above .5 by at least this share of the best cell's make up the part that is shown.
LIT = 0.6
#: Least side of that part, in shares of the picture's.
LEAST_PART = 0.2

Part = tuple[float, float, float, float]


def part_of(evidence: JSON) -> Part | None:
    """Top, bottom, left and right of where a finding can be read, in shares; None without a map of an image.

    Examples
    --------
    >>> part_of({"cell_map": [[0.9, 0.5, 0.5, 0.5]] * 2 + [[0.5] * 4] * 2})
    (0.0, 0.5, 0.0, 0.25)
    """
    try:
        cells = np.array(evidence.get("cell_map"), dtype=float)
    except (TypeError, ValueError):
        return None
    if cells.ndim != 2 or len(cells) < 2 or not np.isfinite(cells).any():
        return None
    above = np.nan_to_num(cells - 0.5)
    lit = above >= LIT * above.max()
    return (*_ends(lit.any(1)), *_ends(lit.any(0)))


def _ends(lit: Array) -> tuple[float, float]:
    places = np.flatnonzero(lit)
    start, stop = places[0] / len(lit), (places[-1] + 1) / len(lit)
    lacking = max(0.0, LEAST_PART - (stop - start)) / 2
    return max(0.0, float(start - lacking)), min(1.0, float(stop + lacking))


def contrast_sheet(
    looks: Looks,
    pairs: Sequence[NearestPair],
    sums: Floats,
    weights: Floats,
    *,
    labels: Ints,
    ids: Array,
    places: Ints,
    part: Part | None,
) -> ContrastSheet:
    """The contrast sheet of one finding.

    Parameters
    ----------
    looks
        That were taken.
    pairs
        Carriers and others, by their numbers among the output's samples.
    sums, weights
        (2, *grid) and (2, samples) of both sides.
    labels, ids, places
        Of the output's samples: label, id, and number among those of all outputs.
    part
        Of images that is shown by itself.
    """
    means = [one if weight.any() else one[..., :0] for one, weight in zip(sums, weights, strict=True)]
    plane, cut = None, ""
    if looks.kind == "volume":
        plane = _plane(sums, weights)
        means = [one[:, plane] for one in means]
        cut = "axial slice" if looks.axial else "slice along the first axis"
        cut += f", at {(plane + 0.5) / sums.shape[2]:.0%} of the depth"

    def picture(row: int | None) -> Array | None:
        if row is None:
            return None
        shown = looks.shown[int(places[row])]
        return shown if plane is None else as_picture(shown[:, plane], (0.0, 1.0))

    sides = [[picture(pair.carrier) for pair in pairs], [picture(pair.other) for pair in pairs]]
    small = _stacked([[_thumbnail(x, looks.kind) for x in side] for side in sides])
    patches = [no_patches(), no_patches()]
    if part is not None and looks.kind == "image":
        patches = _stacked([[_thumbnail(_cropped(x, part), looks.kind) for x in side] for side in sides])
    mean_carriers, mean_others = (_channels_last(one, looks.kind) for one in means)
    return ContrastSheet(
        small[0],
        small[1],
        tuple(ids[pair.carrier] for pair in pairs),
        tuple("" if pair.other is None else ids[pair.other] for pair in pairs),
        labels[[pair.carrier for pair in pairs]].astype(np.int64),
        mean_carriers,
        mean_others,
        looks.kind,
        cut,
        patches[0],
        patches[1],
    )


def _plane(sums: Floats, weights: Floats) -> int:
    """The slice in which the means differ most; the middle one where a side is empty."""
    if not all(weight.any() for weight in weights):
        return int(sums.shape[2] // 2)
    return int(np.abs(sums[0] - sums[1]).mean(0).mean((1, 2)).argmax())


def _cropped(picture: Array | None, part: Part) -> Array | None:
    if picture is None:
        return None
    height, width = picture.shape[:2]
    top, bottom, left, right = part
    rows = slice(int(top * height), max(int(top * height) + 1, round(bottom * height)))
    return picture[rows, int(left * width) : max(int(left * width) + 1, round(right * width))]


def _thumbnail(picture: Array | None, kind: str) -> Array | None:
    if picture is None or kind == "signal" or max(picture.shape[:2]) <= SHOWN_SIDE:
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _stacked(sides: Sequence[Sequence[Array | None]]) -> list[Array]:
    """The pictures of either side, each in the middle of a black one of the size that all fit in."""
    pictures = [picture for side in sides for picture in side if picture is not None]
    height, width = (max(picture.shape[k] for picture in pictures) for k in (0, 1))
    colours = any(picture.ndim == 3 for picture in pictures)
    return [np.stack([_on_canvas(x, height, width, colours=colours) for x in side]) for side in sides]


def _on_canvas(picture: Array | None, height: int, width: int, *, colours: bool) -> Array:
    canvas = np.zeros((height, width, 3) if colours else (height, width), np.uint8)
    if picture is not None:
        if colours and picture.ndim == 2:
            picture = picture[..., None]
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


def _channels_last(mean: Floats, kind: str) -> Floats:
    """(h, w) or (h, w, 3) of an image's mean; that of a signal stays (leads, time)."""
    if kind == "signal":
        return mean
    if not mean.size:
        return np.zeros((0, 0), np.float32)
    return mean[0] if len(mean) == 1 else np.moveaxis(mean, 0, -1)
