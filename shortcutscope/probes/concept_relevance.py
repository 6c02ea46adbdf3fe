"""Relevance that starts from a concept: where a network reads it, whatever the output makes of it.

A map of the output shows what the prediction rests on, and of two artifacts in one image the stronger one:
that of noise lies on the tag beside it. Here LRP starts from the concept's own direction at a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.attribution.checks import check_lrp
from shortcutscope.attribution.lrp.conditional import Direction, conditional_relevance
from shortcutscope.attribution.lrp.mode import default_composite
from shortcutscope.attribution.slope import Explained
from shortcutscope.attribution.tokens import on_pixels
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import device_of
from shortcutscope.models.heads.head import Output
from shortcutscope.models.layers import Layer
from shortcutscope.probes.affected import Gallery, gallery_layer
from shortcutscope.probes.cav import pattern_cav
from shortcutscope.scan.reading import Scan
from shortcutscope.types import JSON, Array, Floats


@dataclass(frozen=True, eq=False)
class ConceptRelevance:
    """Relevance of images from the directions of concepts.

    Attributes
    ----------
    model
        Frozen.
    table, scan
        The same samples, in one order.
    output
        Which part of what the model returns holds the scores.
    """

    model: nn.Module
    table: ImageTable
    scan: Scan
    output: Output = None
    _checked: dict[str, str] = field(default_factory=dict)

    def added_to(self, gallery: Gallery, values: Floats, rows: Sequence[JSON]) -> Gallery:
        """A gallery with the maps of its concept, or with the reason why there are none.

        Parameters
        ----------
        gallery
            Of a concept; those of volumes and signals stay as they are.
        values
            ``(N,)`` of the concept, NaN where it is unknown.
        rows
            What its probe found at each layer: ``layer``, ``auroc``, ``auroc_low``.

        References
        ----------
        Achtibat et al. 2023, Nature Machine Intelligence 5, 1006-1019; of directions Pahde et al. 2025.
        """
        if gallery.kind != "image":
            return gallery
        layer = self.scan.layer(start_layer(rows))
        try:
            maps = self._maps(gallery.sample_ids, values, layer)
        except (InputError, ModelError) as error:
            return replace(gallery, no_concept_maps=str(error))
        scaled = (maps / max(float(np.abs(maps).max()), 1e-12)).astype(np.float16)
        return replace(gallery, concept_maps=scaled, concept_layer=layer.name)

    def _maps(self, sample_ids: Sequence[str], values: Floats, layer: Layer) -> Floats:
        """``(K, H, W)`` on the grid of the images."""
        read_at = gallery_layer(self.scan.layers)
        if read_at is None:
            raise InputError("no layer has the geometry of an image")
        if not layer.grid or read_at.depth > layer.depth:
            read_at = layer if layer.grid else read_at
        x = self._batch(sample_ids)
        self._require_lrp(x)
        labels = self.scan.samples["label"].to_numpy()
        cav = pattern_cav(self.scan.activation(layer, "mean"), values, labels)
        direction = torch.as_tensor(cav.filter, dtype=torch.float32)
        relevance = conditional_relevance(
            self.model,
            x,
            Direction(layer.name, direction),
            [read_at],
            explained=Explained(output=self.output),
            maps=True,
        )
        maps: Array = on_pixels(relevance.maps[read_at.name].float(), x.shape[2:]).cpu().numpy()
        if not np.isfinite(maps).all():
            raise ModelError(f"relevance from {layer.name} holds NaN or infinite values")
        return maps

    def _batch(self, sample_ids: Sequence[str]) -> Tensor:
        images = [self.table[self._places[name]][0] for name in sample_ids]
        return torch.stack(images).to(device_of(self.model))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {str(name): k for k, name in enumerate(self.table.frame["sample_id"])}

    def _require_lrp(self, x: Tensor) -> None:
        """Refuse a network on which LRP does not hold; looked at once, on the first images."""
        if "lrp" not in self._checked:
            explained = Explained(task=self.scan.task, output=self.output)
            checked = check_lrp(self.model, x, default_composite(self.model, x[:1]), explained)
            self._checked["lrp"] = "" if checked.passed else "; ".join(checked.reasons)
        if self._checked["lrp"]:
            raise ModelError(f"LRP does not hold on this network: {self._checked['lrp']}")


def start_layer(rows: Sequence[JSON]) -> str:
    """The deepest of the layers that tell a concept as well as the best one, within its interval.

    Early layers often tell it as well, of edges and brightness; the deepest one has it as a thing of its own.

    Examples
    --------
    >>> row = {"auroc_low": 0.9}
    >>> start_layer([{"layer": n, "auroc": a, **row} for n, a in (("a", 1.0), ("b", 0.95), ("c", 0.8))])
    'b'
    """
    best = max(rows, key=lambda row: float(row["auroc"]))
    enough = min(float(best["auroc_low"]), float(best["auroc"]))
    return str([row["layer"] for row in rows if float(row["auroc"]) >= enough][-1])
