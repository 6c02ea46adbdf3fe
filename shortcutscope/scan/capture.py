"""One forward and one backward pass: the pooled activation and relevance of every layer.

Forward hooks pool each layer's output and put a hook on the tensor itself, which pools gradient x
activation as soon as the backward pass gets there; so no gradient map outlives its layer. The graph starts
at the first recorded layer, and parameters need no gradient: both make the scan cheaper than a gradient
with respect to the image (Simonyan et al. 2014 for the gradient, Ancona et al. 2018 for gradient x input).
With the rules of LRP in the backward pass (`shortcutscope.attribution.lrp`) the same product is LRP's
relevance (Bach et al. 2015).

All functions expect a model in evaluation mode; `shortcutscope.models.frozen.frozen` lends one out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

import torch
from torch import Tensor, nn

from shortcutscope.attribution.hooks import Gradients, parameters_without_gradient, visiting
from shortcutscope.attribution.lrp import Composite, propagation
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import class_count, find_logits, select_target
from shortcutscope.models.layers import Layer
from shortcutscope.scan.pooling import (
    LRP_STATS,
    RELEVANCE_STATS,
    edited_output,
    pool_activation,
    pool_relevance,
)


@dataclass(frozen=True)
class BatchPools:
    """What one batch gives.

    Attributes
    ----------
    logits
        (N, K) scores, at least float32.
    target
        (N,) int64, the class that is explained; the predicted one where every class is.
    activations
        Layer name -> ``"mean"``, ``"max"``, ``"std"`` and, of a layer with a class token, ``"class"``, each
        (N, C); see `pool_activation`.
    relevances
        Layer name -> ``"sum"``, ``"max"`` and, without LRP, ``"gradient"``, each (N, C), or
        (N, classes, C) for ``target="every"``; see `pool_relevance`. Zero for a layer that the explained
        score does not depend on. Empty without a backward pass.
    """

    logits: Tensor
    target: Tensor
    activations: dict[str, dict[str, Tensor]]
    relevances: dict[str, dict[str, Tensor]]

    def on_host(self) -> BatchPools:
        """The same in the host's memory, as float32, by one copy: the only time that it waits for the device.

        Raises
        ------
        NonFiniteScanError
            NaN or infinite scores.
        """
        kinds = (self.activations, self.relevances)
        pooled = [values for kind in kinds for pools in kind.values() for values in pools.values()]
        tensors = [self.logits, self.target, *pooled]
        flat = torch.cat([values.reshape(len(values), -1).float() for values in tensors], dim=1).cpu()
        parts = torch.split(flat, [values[0].numel() for values in tensors], dim=1)
        held = (part.reshape(values.shape) for part, values in zip(parts, tensors, strict=True))
        logits, target = next(held), next(held).long()
        _require_finite(logits)
        activations, relevances = (
            {layer: {stat: next(held) for stat in pools} for layer, pools in kind.items()} for kind in kinds
        )
        return BatchPools(logits, target, activations, relevances)


class NonFiniteScanError(ModelError):
    """NaN or infinite scores.

    Attributes
    ----------
    rows
        Positions in the batch of the samples concerned.
    """

    def __init__(self, rows: Sequence[int], names: Sequence[str] | None = None) -> None:
        self.rows = tuple(rows)
        ids = [str(name) for name in (names if names is not None else self.rows)]
        some = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        where = "for the samples" if names is not None else "for the samples at the batch's positions"
        super().__init__(
            f"the model returns NaN or infinite scores {where} {some}; check its weights (a diverged "
            "training, half precision) and the value range and transform of the images"
        )


class CaptureOptions(TypedDict, total=False):
    """How relevance is computed, see `capture_batch`."""

    relevance: bool
    composite: Composite | None
    autocast: torch.dtype | None


def capture_batch(
    model: nn.Module,
    x: Tensor,
    layers: Sequence[Layer],
    explained: Explained | None = None,
    *,
    relevance: bool = True,
    composite: Composite | None = None,
    autocast: torch.dtype | None = None,
) -> BatchPools:
    """Pooled activations and relevances of all layers for one batch, without waiting for the device.

    Parameters
    ----------
    model
        In evaluation mode. Comes back without hooks, also after an exception.
    x
        A batch (N, ...).
    layers
        As `find_layers` returns them.
    explained
        The score whose gradient is taken, by default that of the predicted class. Its target may also be
        ``"every"`` (as many backward passes as there are classes, over one forward pass).
    relevance
        False for a forward pass alone.
    composite
        Rules of LRP for the backward pass; None for gradient x activation.
    autocast
        Precision of the forward and backward pass (``torch.bfloat16``); pooling is in float32 regardless.

    Raises
    ------
    InputError
        As many labels or targets as samples are needed, and classes that the model has.
    ModelError
        A layer that did not run or ran twice, or one whose output is overwritten in place without its `Layer`
        saying so. Scores that are not finite are refused by `BatchPools.on_host`.
    """
    explained = explained or Explained()
    _check_batch(x, explained.labels)
    activations: dict[str, dict[str, Tensor]] = {}
    gradients = Gradients(partial(pool_relevance, plain=composite is None))

    def visit(layer: Layer, values: Tensor) -> Tensor | None:
        activations[layer.name] = pool_activation(layer, values)
        return gradients.follow(layer, values) if relevance else None

    every = isinstance(explained.target, str) and explained.target == "every"
    with parameters_without_gradient(model), torch.set_grad_enabled(relevance):
        with visiting(model, layers, visit):
            logits = _logits(model, x, explained.output, autocast, composite if relevance else None)
        # Where every class is explained, the target column holds the prediction.
        score, classes = (replace(explained, target="predicted") if every else explained).select(logits)
        if not relevance:
            return BatchPools(logits, classes, activations, {})
        scores = _scores_of_all(logits, explained.task) if every else [score]
        passes = [gradients.pool(score, last=score is scores[-1]) for score in scores]
    stats = RELEVANCE_STATS if composite is None else LRP_STATS
    pools = {layer.name: _gather(layer, passes, activations[layer.name], every, stats) for layer in layers}
    return BatchPools(logits.detach(), classes, activations, pools)


def _scores_of_all(logits: Tensor, task: str) -> list[Tensor]:
    return [select_target(logits, k, None, task)[0] for k in range(class_count(logits, task))]


def forward_edited(
    model: nn.Module,
    x: Tensor,
    layer: Layer,
    edit: Callable[[Tensor], Tensor],
    *,
    output: Output = None,
) -> Tensor:
    """Scores of a forward pass in which one layer's output is edited.

    Parameters
    ----------
    model, x, output
        As in `capture_batch`.
    layer
        Where to intervene.
    edit
        Takes the output with its positions flattened, (N, C, P), and returns as much. All positions, also
        class tokens; a vector has P = 1. Computes in full precision.

    Returns
    -------
    logits
        (N, K), at least float32.

    Raises
    ------
    InputError
        The edit changes the shape.
    """
    _check_batch(x, None)

    def seen(values: Tensor) -> Tensor:
        outputs.append(edit(values))
        return outputs[-1]

    def visit(layer: Layer, values: Tensor) -> Tensor:
        return edited_output(layer, values, seen)

    outputs: list[Tensor] = []
    try:
        with torch.no_grad(), visiting(model, [layer], visit):
            logits = _logits(model, x, output)
        _require_finite(logits)
    except NonFiniteScanError:
        if not all(bool(torch.isfinite(edited).all()) for edited in outputs):
            raise ModelError(
                f"the activations of layer {layer.name!r} cannot be edited: they hardly vary over the "
                "samples, so that what was to be taken out of them is NaN; leave the layer out"
            ) from None
        raise
    return logits


def _require_finite(logits: Tensor) -> None:
    bad = ~torch.isfinite(logits).all(dim=1)
    if bad.any():
        raise NonFiniteScanError(bad.nonzero().flatten().tolist())


def _logits(
    model: nn.Module,
    x: Tensor,
    output: Output,
    autocast: torch.dtype | None = None,
    composite: Composite | None = None,
) -> Tensor:
    if model.training:
        raise ModelError(
            "the model is in training mode: call model.eval(), or scan it within `with frozen(model): ...`"
        )
    mixed = torch.autocast(x.device.type, dtype=autocast, enabled=autocast is not None)
    with mixed, propagation(composite):
        result = model(x.detach().clone())  # a copy, since a model may normalise its input in place
    logits = find_logits(result, output)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if len(logits) != len(x):
        raise ModelError(f"the model returns scores for {len(logits)} samples when given {len(x)}")
    return logits


def _gather(
    layer: Layer,
    passes: list[dict[str, dict[str, Tensor]]],
    activations: dict[str, Tensor],
    every: bool,
    stats: Sequence[str],
) -> dict[str, Tensor]:
    if any(layer.name not in one for one in passes):
        unused = dict.fromkeys(stats, torch.zeros_like(activations["mean"]))
        passes = [{layer.name: unused} | one for one in passes]
    pools = [one[layer.name] for one in passes]
    if not every:
        return pools[0]
    return {stat: torch.stack([pool[stat] for pool in pools], dim=1) for stat in stats}


def _check_batch(x: Tensor, labels: Tensor | None) -> None:
    if labels is not None and tuple(labels.shape[:1]) != tuple(x.shape[:1]):
        raise InputError(
            f"labels of shape {tuple(labels.shape)} are given for a batch of {len(x)} samples; "
            "give one a sample"
        )
