"""What needs more than the samples: twins with and without the artifact, relevance inside masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.compare.estimate import Estimate, not_measurable
from shortcutscope.compare.performance import ComparedSamples
from shortcutscope.data.geometry import Geometry
from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform_geometry import follow
from shortcutscope.errors import InputError
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import predicted_class
from shortcutscope.planting.planting import PlantedSource, artifact_mask, clean_twin, everywhere
from shortcutscope.scan.batches import batches
from shortcutscope.stats.metrics import flip_rate
from shortcutscope.types import Bools, Floats

#: From a sample's id to its mask in the image's own size, or None.
MaskOf = Callable[[str], npt.ArrayLike | None]
#: Carriers of a table whose relevance is measured, at most.
RELEVANCE_SAMPLES = 256


def is_planted(table: ImageTable, column: str) -> bool:
    """Whether the images are drawn over with an artifact under that name."""
    return isinstance(table.source, PlantedSource) and column in [p.column for p in table.source.plantings]


def twins_of(table: ImageTable, column: str) -> tuple[ImageTable, ImageTable] | None:
    """The same samples without and with the artifact, or None where it is not planted."""
    return (clean_twin(table, column), everywhere(table, column)) if is_planted(table, column) else None


def twin_flips(samples: ComparedSamples, twins: Sequence[Tensor] | None, task: str) -> Estimate:
    """Share of samples whose predicted class the artifact alone changes; from the logits of both twins."""
    if twins is None:
        return not_measurable(
            "twins",
            "flip_rate",
            "nothing is planted in these images, so that there are no twins that differ in it alone",
        )
    without, carrying = (predicted_class(logits, task).numpy() for logits in twins)
    return samples.estimate(
        "twins", "flip_rate", "low", lambda w, k: flip_rate(without[k], carrying[k], w), why="no samples"
    )


@dataclass(frozen=True)
class CarrierMasks:
    """Masks of carriers in the model's input.

    Attributes
    ----------
    by_row
        Row to mask.
    why
        There are none.
    """

    by_row: Mapping[int, Tensor]
    why: str = ""


def select_masks(
    table: ImageTable, samples: ComparedSamples, masks: MaskSet | MaskOf | None, seed: int
) -> CarrierMasks:
    """The masks of carriers, or why there are none.

    Raises
    ------
    InputError
        A mask of another size than its image, or a transform that cannot be followed.
    """
    rows = np.flatnonzero(samples.carries == 1)
    mask_of: Callable[[int], npt.ArrayLike | None]
    if masks is not None:
        mask_of = partial(_given_mask, table, masks)
    elif is_planted(table, samples.concept):
        mask_of = lambda row: artifact_mask(table, row, samples.concept).numpy()  # noqa: E731
    else:
        return CarrierMasks({}, "there are no masks of it; give masks=")
    by_row = {}
    for row in np.random.default_rng([seed, 7]).permutation(rows):
        values = mask_of(int(row))
        if values is not None and np.asarray(values).any():
            try:
                by_row[int(row)] = _in_input(table, int(row), np.asarray(values, np.bool_), masks)
            except InputError as error:
                if masks is not None:
                    raise
                return CarrierMasks({}, str(error))  # nobody asked for these masks: the rest can be compared
        if len(by_row) == RELEVANCE_SAMPLES:
            break
    return CarrierMasks(dict(sorted(by_row.items())), "" if by_row else "no carrier has a mask")


def _given_mask(table: ImageTable, masks: MaskSet | MaskOf, row: int) -> npt.ArrayLike | None:
    name = str(table.frame["sample_id"].iloc[row])
    if isinstance(masks, MaskSet):
        return masks.mask(name) if name in masks else None
    return masks(name)


def _in_input(table: ImageTable, row: int, mask: Bools, source: MaskSet | MaskOf | None) -> Tensor:
    """A mask brought from the image to the model's input."""
    image = table.image(row)
    if isinstance(source, MaskSet):
        geometry = table.geometry(row, image)
    else:
        if mask.shape != tuple(image.shape[1:]):
            raise InputError(
                f"the mask of sample {table.frame['sample_id'].iloc[row]!r} has the size {mask.shape}, its "
                f"image {tuple(image.shape[1:])}; give masks in the size of the table's images"
            )
        geometry = follow(table.transform, image, Geometry.of(mask.shape))
    return torch.from_numpy(np.asarray(geometry.from_source(mask.astype(np.float32))) > 0.5)


def artifact_relevance(
    model: nn.Module,
    table: ImageTable,
    samples: ComparedSamples,
    masks: CarrierMasks,
    *,
    method: str,
    batch_size: int,
    task: str,
    output: Output,
) -> Estimate:
    """Relevance of the predicted class inside the mask over the total, averaged over carriers."""
    if not masks.by_row:
        return not_measurable("relevance", "artifact_relevance", masks.why)
    rows = np.array(list(masks.by_row))
    subset = table.take(rows)
    shares: list[Floats] = []
    start = 0
    for x, _, _ in batches(subset, batch_size):
        attribution = attribute(model, x, method=method, task=task, output=output, batch_size=batch_size)
        maps = attribution.on_pixels().abs().double()
        inside = torch.stack([masks.by_row[int(row)] for row in rows[start : start + len(x)]])
        total = maps.flatten(1).sum(1)
        part = (maps * inside).flatten(1).sum(1)
        shares.append(torch.where(total > 0, part / total, torch.nan).numpy())
        start += len(x)
    share = np.full(len(samples.labels), np.nan)
    share[rows] = np.concatenate(shares)
    area = float(np.mean([float(mask.double().mean()) for mask in masks.by_row.values()]))

    def mean(w: Floats, inside: Bools) -> Floats:
        mass = w.sum(axis=1)
        return np.asarray(w @ share[inside] / np.where(mass > 0, mass, np.nan), np.float64)

    return samples.estimate(
        "relevance",
        "artifact_relevance",
        "low",
        mean,
        np.isfinite(share),
        why="the network has no relevance on these images",
        note=f"{method}, {len(rows)} samples; the masks fill {area:.1%} of the image",
    )
