"""Which pixels inside a region were changed: the image's own contrast, chosen by what carriers show.

Evidence says where to look, but it spreads over its filters' width: letters come out as a blob. Inside the
region the pixel's own value tells more. It is compared with the surroundings (a wide or a narrow median) or
with what samples without the concept show at the same pixel (difference, or in standard deviations),
brighter, darker or either. Which of these it is, is found from how often carriers exceed the threshold inside
their regions beyond how often the others do in the very same places: an excess that the artifact explains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation
from skimage.filters import rank

from shortcutscope.masks.evidence import averaged, resized
from shortcutscope.masks.fusion import region_of
from shortcutscope.masks.mask_files import Mask
from shortcutscope.masks.thresholds import Threshold, threshold_of
from shortcutscope.retrieval.signals import loudness_planes, running_median
from shortcutscope.types import Array, Bools, Ints

Images = npt.NDArray[np.float32]

#: Side of the median windows, as a share of the image's shorter side.
WINDOWS = {"narrow": 9 / 64, "wide": 15 / 64}
#: By the number of axes: medians of what is larger are taken on images averaged down to this side. Fine marks
#: have to stay fine: blurred into half of the window, they would be taken for the surroundings.
MEDIAN_SIDES = {1: 256, 2: 64, 3: 32}
#: Regions reach down to these shares of Otsu's threshold of the evidence.
REGIONS = (0.5, 1.0)
BASES = ("difference", "deviation", *WINDOWS)
SIGNS = {"brighter": 1, "darker": -1, "either": 0}
#: A contrast of either sign has to explain this much more than the better single sign.
EITHER_GAIN = 1.25
#: Values of others that one in ten exceed, and one in ten fall short of; beyond them pixels are unusual.
UNUSUAL = 0.1
#: Width in pixels of the ring around a region that its pixels are compared with.
RING = 3
#: Both signs are looked at where the rarer change is at least so much of the other.
BOTH = 0.5
#: A ring around the masks belongs to them from this share of their own contrast on.
FADING = 0.15
#: Most rings that are added.
LONGEST_RIM = 2
#: Added to standard deviations, as a share of the images' own.
FLOOR = 0.2


@dataclass(frozen=True, eq=False)
class ImageStatistics:
    """What samples without the concept show at each pixel.

    Attributes
    ----------
    mean, spread
        (P, *size), of the image's planes; see :func:`planes`.
    leads
        Whether they are signals, (leads, time).
    """

    mean: Images
    spread: Images
    leads: bool = False

    @classmethod
    def fit(cls, without: Images, *, leads: bool = False) -> ImageStatistics:
        """From images (N, C, *size), or signals (N, 1, leads, time)."""
        image_planes = planes(without, leads=leads)
        each = (image_planes.std(tuple(i for i in range(image_planes.ndim) if i != 1)) + 1e-6).reshape(
            -1, *[1] * (image_planes.ndim - 2)
        )
        return cls(image_planes.mean(0), (image_planes.std(0) + FLOOR * each).astype(np.float32), leads)


@dataclass(frozen=True)
class Contrast:
    """One way to compare a pixel.

    Attributes
    ----------
    base
        ``"difference"``, ``"deviation"``, ``"narrow"`` or ``"wide"``.
    sign
        ``"brighter"``, ``"darker"`` or ``"either"``.
    plane
        0 is the mean over channels, k + 1 how channel k differs from it, or the k-th loudness of signals.
    """

    base: str
    sign: str
    plane: int = 0

    def of(self, images: Images, statistics: ImageStatistics) -> Images:
        """Contrast (N, *size) of images (N, C, *size)."""
        plane_values = planes(images, leads=statistics.leads)[:, self.plane]
        return self.signed(compared(plane_values, self.base, statistics, self.plane))

    def signed(self, values: Images) -> Images:
        """Values, large where the contrast is of its sign."""
        sign = SIGNS[self.sign]
        return np.asarray(np.abs(values) if sign == 0 else sign * values, np.float32)

    def __str__(self) -> str:
        which = f", channel {self.plane - 1}" if self.plane else ""
        return f"{self.base} {self.sign}{which}"


def planes(images: Images, *, leads: bool = False) -> Images:
    """(N, P, *size): the mean over channels, and of colour images how each channel differs from it.

    Of signals (N, 1, leads, time) the value, and how loud it is around there.
    """
    if leads:
        return np.concatenate([images, loudness_planes(images[:, 0])], 1)
    grey = images.mean(1, keepdims=True)
    stack = grey if images.shape[1] == 1 else np.concatenate([grey, images - grey], 1)
    return np.asarray(stack, np.float32)


def compared(values: Images, base: str, statistics: ImageStatistics, plane: int = 0) -> Images:
    """One plane (N, *size) against its surroundings or against what is usual there."""
    if base in WINDOWS:
        return np.asarray(values - background(values, WINDOWS[base], leads=statistics.leads), np.float32)
    difference = np.asarray(values - statistics.mean[plane], np.float32)
    return (
        difference if base == "difference" else np.asarray(difference / statistics.spread[plane], np.float32)
    )


def background(values: Images, window: float, *, leads: bool = False) -> Images:
    """Local median (N, *size), of a window of this share of the shorter side; of signals along time.

    A median leaves a small bright thing out altogether, where a mean would spread it as a halo.
    """
    if leads:
        alone = values.reshape(-1, values.shape[-1])
        return background(alone, window).reshape(values.shape)
    size = values.shape[1:]
    shrink = min(1.0, MEDIAN_SIDES[len(size)] / min(size))
    small = tuple(max(1, round(side * shrink)) for side in size)
    less = averaged(torch.from_numpy(values)[:, None], small)[:, 0].numpy()
    width = 2 * round((window * min(small) - 1) / 2) + 1
    if len(size) == 1:
        medians = running_median(less, width)
    else:
        medians = np.stack([_median(image, width) for image in less])
    return resized(torch.from_numpy(medians), size).numpy().astype(np.float32)


def _median(image: Images, width: int) -> Images:
    """Local median of one image (H, W) or volume (D, H, W) in 256 steps of its range.

    Many times as fast as an exact one.
    """
    low, step = float(image.min()), max(float(np.ptp(image)), 1e-9) / 255
    codes = np.rint((image - low) / step).astype(np.uint8)
    padded = np.pad(codes, width // 2, mode="edge")
    codes_median = rank.median(padded, np.ones((width,) * image.ndim, np.uint8))  # type: ignore[no-untyped-call]
    codes_median = codes_median[(slice(width // 2, -(width // 2) or None),) * image.ndim]
    if image.ndim == 2:
        return np.asarray(low + step * codes_median.astype(np.float32), np.float32)
    return np.asarray(_levels(image, codes)[codes_median], np.float32)


def _levels(values: Images, codes: npt.NDArray[np.uint8]) -> Images:
    """(256,) the median of the values that have each code.

    What most voxels of a plane are, such as a colour's zero in a grey volume, is met exactly.
    """
    upto = np.bincount(codes.ravel(), minlength=256).cumsum()
    middle = (upto + np.concatenate([[0], upto[:-1]])) // 2
    return np.asarray(np.sort(values, axis=None)[np.minimum(middle, values.size - 1)], np.float32)


@dataclass(frozen=True)
class ContrastChoice:
    """The contrast that explains carriers best.

    Attributes
    ----------
    contrast
        Which.
    share
        Of the evidence's own threshold, to which the region reaches down.
    expected
        Intersection over union that is expected of its masks inside the regions.
    rim
        Pixels by which they are grown, see :func:`soft_rim`.
    fine
        Whether their edges are looked at pixel by pixel, see :mod:`shortcutscope.masks.fine_edges`.
    """

    contrast: Contrast
    share: float
    expected: float
    rim: int = 0
    fine: bool = False


def _expected_quality(
    counts: Mapping[tuple[float, Contrast], tuple[int, int]],
) -> dict[tuple[float, Contrast], float]:
    """How well masks of every contrast can be expected to cover the artifact."""
    # What the artifact covers is not known; the largest excess that any contrast finds is a lower bound.
    most = max(above - usually for above, usually in counts.values())
    return {
        way: max(above - usually, 0) / max(usually + most, 1e-9) for way, (above, usually) in counts.items()
    }


def choose_contrast(
    carriers: Images,
    others: Images,
    evidence: Images,
    statistics: ImageStatistics,
    threshold: Threshold = "otsu",
    bases: Sequence[str] = BASES,
) -> ContrastChoice:
    """The contrast, and the width of the region, in which carriers exceed the others most.

    Parameters
    ----------
    carriers : (N, C, *size)
        Images with the concept.
    others : (M, C, *size)
        Images without.
    evidence : (N, *size)
        Of the carriers; the region around it is also laid over one of the others.
    statistics
        Of images without.
    threshold
        By which masks will be cut out.
    bases
        What pixels are compared with; only their surroundings where images are windows on moving things.
    """
    counts: dict[tuple[float, Contrast], tuple[int, int]] = {}
    clear: dict[tuple[float, Contrast], float] = {}
    carrier_planes, other_planes = (
        planes(carriers, leads=statistics.leads),
        planes(others, leads=statistics.leads),
    )
    regions = {share: [region_of(values, share) for values in evidence] for share in REGIONS}
    allowed = []
    for plane in range(carrier_planes.shape[1]):
        here, usually = (
            compared(v[:, plane], "deviation", statistics, plane) for v in (carrier_planes, other_planes)
        )
        allowed.append(signs_of(here, usually, regions[max(REGIONS)]))
    for plane, base in product(range(carrier_planes.shape[1]), bases):
        with_it, without = (
            compared(v[:, plane], base, statistics, plane) for v in (carrier_planes, other_planes)
        )
        for share, where in regions.items():
            inside = [v[r] for v, r in zip(with_it, where, strict=True)]
            outside = [without[k % len(without)][r] for k, r in enumerate(where)]
            for sign in allowed[plane]:
                contrast = Contrast(base, sign, plane)
                pairs = [
                    (contrast.signed(a), contrast.signed(b)) for a, b in zip(inside, outside, strict=True)
                ]
                counts[share, contrast] = _exceeding(pairs, threshold)
                separations = [eta(a, a > threshold_of(a, threshold)) for a, _ in pairs]
                clear[share, contrast] = float(np.mean(separations))
    expected = _expected_quality(counts)
    best = max(
        expected,
        key=lambda way: expected[way] * clear[way] / (EITHER_GAIN if way[1].sign == "either" else 1),
    )
    share, contrast = best
    values = contrast.of(carriers, statistics)
    masks = [cut(v, r, threshold) for v, r in zip(values, regions[share], strict=True)]
    if statistics.leads:  # their edges are sharp, and no lead is beside another
        return ContrastChoice(contrast, share, expected[best])
    clearest = _clearest(values, regions[share], masks)
    wide = compared(carrier_planes[clearest, contrast.plane], "wide", statistics, contrast.plane)
    rim = soft_rim(wide, [masks[k] for k in clearest])
    return ContrastChoice(contrast, share, expected[best], rim)


def signs_of(carriers: Images, others: Images, where: Sequence[Mask]) -> tuple[str, ...]:
    """Which signs a change may have, by what is usual at the very pixels.

    Beside something bright all is dark, though nothing was changed there, and a contrast of either sign
    with the surroundings would draw it. So either sign is looked at only where carriers have more unusual
    pixels than others on both sides.

    Parameters
    ----------
    carriers, others
        (N, *size) and (M, *size), deviation from what is usual; each is taken from that right beside the
        region.
    where
        Regions of the carriers.
    """
    inside = np.concatenate([_beside(values, r) for values, r in zip(carriers, where, strict=True)])
    outside = np.concatenate([_beside(others[k % len(others)], r) for k, r in enumerate(where)])
    if not inside.size:
        return tuple(SIGNS)
    low, high = np.quantile(outside, (UNUSUAL, 1 - UNUSUAL))
    more = {
        "brighter": float((inside > high).mean() - (outside > high).mean()),
        "darker": float((inside < low).mean() - (outside < low).mean()),
    }
    most = max(more.values())
    if most <= 0 or min(more.values()) >= BOTH * most:
        return tuple(SIGNS)
    return (max(more, key=lambda sign: more[sign]),)


def _beside(values: Array, region: Mask) -> Array:
    """Values of a region from what is ordinary right beside it: images differ in exposure, too."""
    ring = binary_dilation(region, iterations=RING) & ~region
    return np.asarray(values[region] - (np.median(values[ring]) if ring.any() else 0.0), np.float32)


def separation(contrast: Images, region: Mask, mask: Mask) -> float:
    """Share of the contrast's variance in a region that lies between the mask and the rest (Otsu's eta)."""
    return eta(contrast[region], mask[region])


def eta(values: Array, selection: Bools) -> float:
    """Share of the values' variance that lies between the chosen and the others (Otsu 1979)."""
    if selection.all() or not selection.any():
        return 0.0
    share = float(selection.mean())
    between = share * (1 - share) * float(values[selection].mean() - values[~selection].mean()) ** 2
    return float(np.clip(between / max(float(values.var()), 1e-12), 0, 1))


def _clearest(values: Images, regions: Sequence[Mask], masks: Sequence[Mask]) -> Ints:
    """The better separated half: an edge is judged where something was found."""
    separations = [separation(*of) for of in zip(values, regions, masks, strict=True)]
    return np.argsort(separations)[len(separations) // 2 :]


def cut(contrast: Images, region: Mask, threshold: Threshold = "otsu") -> Mask:
    """Pixels of a region (*size) whose contrast is above the threshold among the region's pixels."""
    return np.asarray(region & (contrast > threshold_of(contrast[region], threshold)), np.bool_)


def soft_rim(contrast: Images, masks: Sequence[Mask]) -> int:
    """By how many pixels masks have to grow to hold what fades out at their edges.

    A threshold cuts a soft edge half-way. Ring by ring around the masks the median contrast is compared with
    that in the masks, both above the level further out: around something with hard edges it drops to that
    level at once. Contrast counts with the sign that it has in the mask: what fades keeps its sign, while the
    gaps between bright marks are dark beside them.

    Parameters
    ----------
    contrast
        (N, *size), against the surroundings, brighter and darker.
    masks
        N masks (*size).
    """
    rings: list[list[Array]] = []
    for image_contrast, mask in zip(contrast, masks, strict=True):
        values = image_contrast * np.sign(image_contrast[mask].sum())
        grown = [mask]
        for _ in range(LONGEST_RIM + 2):
            grown.append(binary_dilation(grown[-1]))
        rings.append([values[mask], *(values[b & ~a] for a, b in pairwise(grown))])
    medians = [float(np.median(np.concatenate(ring))) for ring in zip(*rings, strict=True)]
    level = medians[-1]
    height = medians[0] - level
    rim = 0
    while rim < LONGEST_RIM and height > 0 and (medians[rim + 1] - level) / height >= FADING:
        rim += 1
    return rim


def _exceeding(pairs: Sequence[tuple[Array, Array]], threshold: Threshold) -> tuple[int, int]:
    """Pixels above each region's threshold, in carriers and in the same places of the others.

    Between what was changed and the rest any threshold cuts carriers alike, and Otsu's lies at the lower end,
    right above the noise of this very image. Others are counted above the middle.
    """
    above = usually = 0
    for values, others in pairs:
        selection = values > threshold_of(values, threshold)
        above += int(selection.sum())
        if selection.any():
            usually += int((others > (values[selection].mean() + values[~selection].mean()) / 2).sum())
    return above, usually
