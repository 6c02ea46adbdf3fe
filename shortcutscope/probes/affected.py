"""The samples that a concept moves most, with relevance maps, for people who would rather look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import uniform_filter1d
from torch import nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.attribution.slope import Explained
from shortcutscope.attribution.tokens import on_pixels
from shortcutscope.data.axial import axial_first, knows_axial
from shortcutscope.data.pictures import KINDS, Kind, kind_of, sample_picture
from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import device_of
from shortcutscope.models.heads.head import Output
from shortcutscope.models.layers import Layer
from shortcutscope.scan.scanner import Scan
from shortcutscope.types import JSON, Array, Floats, Ints

#: Depth up to which the patches of a transformer with a class token still hold relevance of their own.
DEEPEST_WITH_TOKEN = 0.5
#: Cells along the shortest side from which a layer's grid shows where, of a signal, an image and a volume.
FINEST: Mapping[Kind, int] = {"signal": 24, "image": 12, "volume": 8}
#: Relevance of a signal's samples is averaged over this share of its length: it is to be seen beside a trace.
SMOOTHED = 1 / 64


@dataclass(frozen=True)
class Gallery:
    """Pictures of the most affected samples.

    Attributes
    ----------
    images : ndarray
        (K, H, W) or (K, H, W, 3) uint8: images, slices of volumes, traces of signals.
    maps : ndarray
        Float16 relevance by the scan's attribution: of images (K, H, W), at an early layer, on the image's
        grid; of volumes the same in the slice that is shown; of signals (K, leads, time), at the input. Of
        size 0 where no relevance was measured.
    sample_ids, captions : list of str
    kind : str
        ``"image"``, ``"volume"`` or ``"signal"``.
    concept_maps : ndarray
        Of images the same as ``maps``, but from the concept's direction at ``concept_layer`` instead of from
        the output; of size 0 where there are none, with the reason in ``no_concept_maps``.
    """

    images: npt.NDArray[np.uint8]
    maps: Floats
    sample_ids: list[str]
    captions: list[str]
    kind: Kind = "image"
    concept_maps: Floats = field(default_factory=lambda: np.zeros((0, 0, 0), np.float16))
    concept_layer: str = ""
    no_concept_maps: str = ""


def most_affected(record: JSON, count: int) -> tuple[Ints, Floats]:
    """Indices of the samples whose logit changes most when a concept is taken out, and the changes.

    Parameters
    ----------
    record : mapping
        Of the use at the decision layer, with ``samples`` and ``change``.
    """
    change = np.asarray(record["change"], dtype=float)
    order = np.argsort(-np.abs(change), kind="stable")[:count]
    return np.asarray(record["samples"], dtype=np.int64)[order], change[order]


def draw_galleries(
    model: nn.Module,
    table: ImageTable,
    scan: Scan,
    use: Mapping[str, JSON],
    *,
    count: int = 12,
    output: Output = None,
) -> dict[str, Gallery]:
    """Galleries of the samples whose logit changes most when a concept is taken out.

    Parameters
    ----------
    use : mapping
        Concept to its record at the decision layer, with ``samples`` and ``change``.
    output
        Which part of the model's output holds the scores, see `find_logits`.

    Returns
    -------
    dict
        Empty when the samples are no signals, images or volumes, or no layer has their geometry.
    """
    axes = len(table.shape) - 1
    if axes not in KINDS:
        return {}
    layer = gallery_layer(scan.layers, axes)
    if layer is None:
        return {}
    labels, predicted = scan.samples["label"].to_numpy(), scan.samples["prediction"].to_numpy()
    galleries = {}
    for name, record in use.items():
        indices, change = most_affected(record, count)
        captions = [
            f"label {labels[i]}, predicted {predicted[i]}, logit {c:+.2f}"
            for i, c in zip(indices, change, strict=True)
        ]
        if len(indices):
            galleries[name] = draw_gallery(
                model,
                table,
                layer,
                indices,
                captions,
                Explained(torch.as_tensor(predicted[indices]), None, scan.task, output),
                method=scan.attribution.used if scan.has_relevance else None,
            )
    return galleries


def gallery_layer(layers: Sequence[Layer], axes: int = 2) -> Layer | None:
    """The deepest layer with so many axes whose grid still shows where, see `FINEST`.

    In a transformer read out at its class token that token gathers the relevance on its way, up to all of
    it in the last block; so of such layers, whose grid is always fine, the first half alone counts.
    """
    flat = [layer for layer in layers if layer.spatial and len(layer.grid) == axes]
    shallow = [layer for layer in flat if not layer.prefix_tokens or layer.depth <= DEEPEST_WITH_TOKEN]
    flat = shallow or flat[:1]
    fine = [layer for layer in flat if min(layer.grid) >= FINEST[KINDS[axes]]]
    return (fine or flat)[-1] if flat else None


def draw_gallery(
    model: nn.Module,
    table: ImageTable,
    layer: Layer,
    indices: Ints,
    captions: Sequence[str],
    explained: Explained,
    *,
    method: str | None = "gradient_x_activation",
) -> Gallery:
    """Relevance maps of some samples on the grid of their images.

    Parameters
    ----------
    model : nn.Module
        Frozen.
    layer : Layer
        Where relevance is read; that of signals is read at the input, since layers do not know of leads.
    explained : Explained
        Which score of every sample.
    method : str
        An attribution, see `attribute`. The scan has checked that it holds on this model. None draws no
        maps.
    """
    kind = kind_of(table.image(int(indices[0])))
    if method is None:
        plain = [sample_picture(table.image(int(i)).numpy(), table.value_range) for i in indices]
        return _gallery(table, indices, plain, np.zeros((len(indices), 0, 0), np.float16), captions, kind)
    x = torch.stack([table[int(i)][0] for i in indices]).to(device_of(model))
    at_input = kind == "signal"
    relevance = attribute(
        model,
        x,
        target=explained.target,
        labels=explained.labels,
        method=_AT_INPUT.get(method, method) if at_input else method,
        layer=None if at_input else layer,
        task=explained.task,
        output=explained.output,
        check=False,
    )
    if relevance.reason is not None:  # the scan's check saw other samples
        captions = [f"{caption}, relevance by gradient x activation" for caption in captions]
    samples = [table.image(int(i)).numpy() for i in indices]
    if at_input:
        maps = _smoothed(relevance.relevance.float().cpu().numpy())
    else:
        maps = on_pixels(relevance.maps().float(), samples[0].shape[1:]).cpu().numpy()
    return _with_maps(table, indices, samples, maps, captions, kind)


def _with_maps(
    table: ImageTable,
    indices: Ints,
    samples: list[Array],
    maps: Floats,
    captions: Sequence[str],
    kind: Kind,
) -> Gallery:
    """The samples' pictures with their maps; of volumes the slice with most relevance."""
    cut = "slice"
    if kind == "volume" and knows_axial(table):
        cut, samples, maps = "axial slice", [axial_first(of) for of in samples], axial_first(maps)
    planes = [most_relevant_slice(of) for of in maps] if kind == "volume" else []
    if planes:
        captions = [
            f"{text}, {cut} {k + 1} of {len(maps[0])}" for text, k in zip(captions, planes, strict=True)
        ]
        maps = np.stack([of[k] for of, k in zip(maps, planes, strict=True)])
    images = [
        sample_picture(sample, table.value_range, plane=plane)
        for sample, plane in zip_longest(samples, planes)
    ]
    scaled = (maps / max(float(np.abs(maps).max()), 1e-12)).astype(np.float16)
    return _gallery(table, indices, images, scaled, captions, kind)


def _gallery(
    table: ImageTable,
    indices: Ints,
    images: Sequence[Array],
    maps: Array,
    captions: Sequence[str],
    kind: Kind,
) -> Gallery:
    ids = table.frame["sample_id"].to_numpy()[indices]
    return Gallery(np.stack(images), maps, [str(i) for i in ids], list(captions), kind)


#: What explains a layer, and what does the same of the input.
_AT_INPUT = {"gradient_x_activation": "gradient_x_input"}


def most_relevant_slice(relevance: Floats) -> int:
    """Which slice (H, W) of a map (D, H, W) holds most relevance of either sign; else the middle one."""
    total = np.abs(relevance).sum((1, 2))
    return int(total.argmax()) if total.any() else len(total) // 2


def _smoothed(relevance: Floats) -> Floats:
    """Relevance (K, leads, time), averaged over the moments around each."""
    width = 2 * round(SMOOTHED * relevance.shape[-1] / 2) + 1
    averaged: Floats = uniform_filter1d(relevance, width, axis=-1, mode="constant")
    return averaged
