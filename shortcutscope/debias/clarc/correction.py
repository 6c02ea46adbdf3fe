"""Fitting edits layer after layer: the next one sees what the ones before it have left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from torch import nn

from shortcutscope.debias.clarc.projection import Edit, LayerEdit, Projected
from shortcutscope.models.layers import Layer

#: Takes the network as it is edited so far and a layer by its name in there; gives one edit a part.
Fit = Callable[[nn.Module, Layer], Sequence[Edit]]


def fitted_in_turn(model: nn.Module, layers: Sequence[Layer], fit: Fit) -> Projected:
    """Edit layers in the order in which they run, each fitted behind the edits of those before it.

    An edit changes what later layers are given, so that what was fitted on the unedited network says
    nothing of them.
    """
    edits: list[LayerEdit] = []
    for layer in layers:
        inner = dataclasses.replace(layer, name=f"model.{layer.name}")
        edits.append(LayerEdit(layer, fit(Projected(model, edits), inner)))
        first = next(model.parameters(), None)
        if first is not None:
            edits[-1].to(first.device)
    return Projected(model, edits)
