"""The samples that a concept moves most, with relevance maps, for people who would rather look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.attribution.tokens import on_pixels
from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import device_of
from shortcutscope.models.layers import Layer
from shortcutscope.scan.scanner import Scan

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


#: Depth up to which the patches of a transformer with a class token still hold relevance of their own.
DEEPEST_WITH_TOKEN = 0.5


@dataclass(frozen=True)
class Gallery:
    """Pictures of the most affected samples.

    Attributes
    ----------
    images : ndarray
        (K, H, W) or (K, H, W, 3) uint8.
    maps : ndarray
        (K, H, W) float16 relevance at an early layer, by the scan's attribution, on the image's grid.
    sample_ids, captions : list of str
    """

    images: np.ndarray[Any, np.dtype[np.uint8]]
    maps: np.ndarray[Any, np.dtype[np.float16]]
    sample_ids: list[str]
    captions: list[str]


def most_affected(record: Mapping[str, Any], count: int) -> tuple[IntArray, FloatArray]:
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
    use: Mapping[str, Mapping[str, Any]],
    *,
    count: int = 12,
    output: str | int | None = None,
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
        Empty when the images are not two-dimensional.
    """
    layer = gallery_layer(scan.layers)
    if layer is None or table.image(0).ndim != 3:
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
                targets=predicted[indices],
                task=scan.task,
                output=output,
                method=scan.attribution.method,
            )
    return galleries


def gallery_layer(layers: Sequence[Layer], finest: int = 12) -> Layer | None:
    """The deepest two-dimensional layer whose grid still shows where: at least ``finest`` cells a side.

    In a transformer read out at its class token that token gathers the relevance on its way, up to all of
    it in the last block; so of such layers, whose grid is always fine, the first half alone counts.
    """
    flat = [layer for layer in layers if layer.spatial and len(layer.grid) == 2]
    early = [layer for layer in flat if not layer.prefix_tokens or layer.depth <= DEEPEST_WITH_TOKEN]
    flat = early or flat[:1]
    fine = [layer for layer in flat if min(layer.grid) >= finest]
    return (fine or flat)[-1] if flat else None


def draw_gallery(
    model: nn.Module,
    table: ImageTable,
    layer: Layer,
    indices: IntArray,
    captions: Sequence[str],
    *,
    targets: IntArray,
    task: str,
    output: str | int | None = None,
    method: str = "gradient_x_activation",
) -> Gallery:
    """Relevance maps of some samples on the grid of their images.

    Parameters
    ----------
    model : nn.Module
        Frozen.
    layer : Layer
        Where relevance is read.
    targets : ndarray
        (K,) class whose logit is explained, for every sample.
    method : str
        An attribution, see `attribute`. The scan has checked that it holds on this model.
    """
    device = device_of(model)
    x = torch.stack([table[int(i)][0] for i in indices]).to(device)
    explained = attribute(
        model,
        x,
        target=torch.as_tensor(targets),
        method=method,
        layer=layer,
        task=task,
        output=output,
        check=False,
    )
    if explained.reason is not None:  # the scan's check saw other samples
        captions = [f"{caption}, relevance by gradient x activation" for caption in captions]
    maps = on_pixels(explained.maps().float(), table.image(int(indices[0])).shape[-2:])
    images = np.stack([displayed(table.image(int(i)), table.value_range) for i in indices])
    ids = table.frame["sample_id"].to_numpy()[indices]
    scaled = maps / maps.abs().max().clamp_min(1e-12)
    return Gallery(images, scaled.cpu().numpy().astype(np.float16), [str(i) for i in ids], list(captions))


def displayed(image: Tensor, value_range: tuple[float, float]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image as eight bits: (H, W), or (H, W, 3) where it has three channels."""
    low, high = value_range
    eight = ((image - low) / (high - low)).clamp(0, 1).mul(255).round().to(torch.uint8)
    return eight.permute(1, 2, 0).numpy() if image.shape[0] == 3 else eight[0].numpy()
