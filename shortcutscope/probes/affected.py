"""The samples that a concept moves most, with relevance maps, for people who would rather look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.data.table import ImageTable
from shortcutscope.models.layers import Layer
from shortcutscope.scan.capture import relevance_map
from shortcutscope.scan.scanner import Scan

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Gallery:
    """Pictures of the most affected samples.

    Attributes
    ----------
    images : ndarray
        (K, H, W) or (K, H, W, 3) uint8.
    maps : ndarray
        (K, H, W) float16 relevance, gradient x activation at an early layer, on the image's grid.
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
    model: nn.Module, table: ImageTable, scan: Scan, use: Mapping[str, Mapping[str, Any]], *, count: int = 12
) -> dict[str, Gallery]:
    """Galleries of the samples whose logit changes most when a concept is taken out.

    Parameters
    ----------
    use : mapping
        Concept to its record at the decision layer, with ``samples`` and ``change``.

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
                model, table, layer, indices, captions, targets=predicted[indices], task=scan.task
            )
    return galleries


def gallery_layer(layers: Sequence[Layer], finest: int = 12) -> Layer | None:
    """The deepest two-dimensional layer whose grid still shows where: at least ``finest`` cells a side."""
    flat = [layer for layer in layers if layer.spatial and len(layer.grid) == 2]
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
) -> Gallery:
    """Relevance maps of some samples on the grid of their images.

    Parameters
    ----------
    model : nn.Module
        Frozen.
    layer : Layer
        Where gradient x activation is read.
    targets : ndarray
        (K,) class whose logit is explained, for every sample.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x = torch.stack([table[int(i)][0] for i in indices]).to(device)
    coarse = relevance_map(model, x, layer, target=torch.as_tensor(targets), task=task)
    size = table.image(int(indices[0])).shape[-2:]
    maps = functional.interpolate(coarse[:, None].float(), size=size, mode="bilinear", align_corners=False)[
        :, 0
    ]
    images = np.stack([displayed(table.image(int(i)), table.value_range) for i in indices])
    ids = table.frame["sample_id"].to_numpy()[indices]
    scaled = maps / maps.abs().max().clamp_min(1e-12)
    return Gallery(images, scaled.cpu().numpy().astype(np.float16), [str(i) for i in ids], list(captions))


def displayed(image: Tensor, value_range: tuple[float, float]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image as eight bits: (H, W), or (H, W, 3) where it has three channels."""
    low, high = value_range
    eight = ((image - low) / (high - low)).clamp(0, 1).mul(255).round().to(torch.uint8)
    return eight.permute(1, 2, 0).numpy() if image.shape[0] == 3 else eight[0].numpy()
