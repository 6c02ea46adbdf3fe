"""Gates on channels: a network in which any channels can be held at a reference, with their effects.

A gated layer gives ``r + k (h - r)``, h its output, r a reference of the same shape, k a gate per channel:
1 lets the channel through, 0 holds it at the reference. The margin's derivative with respect to a sample's
gate, ``sum over positions of (h - r) dz/dh``, is to first order what the channel contributes to the margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shortcutscope.attribution.hooks import parameters_without_gradient, visiting
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import device_of
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import find_logits, margin, require_finite
from shortcutscope.models.layers import Layer
from shortcutscope.scan.pooling import from_positions, positions
from shortcutscope.types import Floats, Ints

#: Layer name -> (C,) gates, True for channels that are let through.
Keep = Mapping[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class ChannelReference:
    """What channels are held at.

    Attributes
    ----------
    mean
        Layer name -> (C, P), at every position, prefix tokens included.
    magnitude
        Layer name -> (C,) mean absolute activation.
    """

    mean: Mapping[str, Tensor]
    magnitude: Mapping[str, Floats]


class Gated:
    """A network with gates on the channels of some layers.

    Parameters
    ----------
    model
        In evaluation mode, as `frozen` lends it out.
    images
        (N, ...), as the model takes them; kept.
    layers
        That can be gated.
    task, positive, output
        Whose margin is taken, see `shortcutscope.models.heads.targets`.
    batch_size
        Images at a time.

    Raises
    ------
    InputError
        Two layers of one name.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        layers: Sequence[Layer],
        *,
        task: str = "auto",
        positive: int = 1,
        output: Output = None,
        batch_size: int = 64,
    ) -> None:
        self.model, self.images, self.layers = model, images, tuple(layers)
        self._by_name = {layer.name: layer for layer in self.layers}
        self._task, self._positive, self._output, self._batch = task, positive, output, batch_size
        self.device = device_of(model)
        if len(self._by_name) != len(self.layers):
            raise InputError("a layer is named twice; name each layer once")

    def layer(self, name: str) -> Layer:
        """The layer of that name."""
        if name not in self._by_name:
            raise InputError(f"layer {name!r} has no gates; there are {', '.join(self._by_name)}")
        return self._by_name[name]

    def reference(self, parts: Sequence[Ints]) -> ChannelReference:
        """Mean activations over some samples; every part weighs the same."""
        sums: dict[str, Tensor] = {}
        sizes: dict[str, Tensor] = {}
        for part in parts:
            weight = 1 / (len(part) * len(parts))

            def visit(layer: Layer, values: Tensor, weight: float = weight) -> None:
                flat = _flat(layer, values).double()
                sums[layer.name] = sums.get(layer.name, 0.0) + weight * flat.sum(0)
                sizes[layer.name] = sizes.get(layer.name, 0.0) + weight * flat.abs().mean(2).sum(0)

            for batch in self._batches(part):
                with torch.no_grad(), visiting(self.model, self.layers, visit):
                    self._margin(batch)
        return ChannelReference(
            {name: total.float() for name, total in sums.items()},
            {name: total.cpu().numpy() for name, total in sizes.items()},
        )

    def margins(
        self, samples: Ints, keep: Keep | None = None, reference: ChannelReference | None = None
    ) -> Floats:
        """Margins (n,) with some channels held at the reference; with none, those of the model itself."""
        gates = self._gates(keep)
        margins = []
        for batch in self._batches(samples):
            visit = _Visit(gates, reference, len(batch), gradient=False)
            with torch.no_grad(), visiting(self.model, [self._by_name[n] for n in gates], visit):
                margins.append(self._margin(batch))
        return np.asarray(torch.cat(margins).cpu().numpy(), np.float64)

    def effects(
        self, samples: Ints, keep: Keep, reference: ChannelReference
    ) -> tuple[Floats, dict[str, Floats]]:
        """Margins (n,) as in `margins`, and how each channel's gate moves them: layer name -> (n, C).

        Raises
        ------
        ModelError
            The margin has no gradient with respect to the layers.
        """
        by_layer = self._gates(keep)
        all_margins, moved = [], []
        for batch in self._batches(samples):
            visit = _Visit(by_layer, reference, len(batch), gradient=True)
            with parameters_without_gradient(self.model), torch.enable_grad():
                with visiting(self.model, [self._by_name[n] for n in by_layer], visit):
                    margins = self._margin(batch)
                if not margins.requires_grad:
                    raise ModelError(
                        "the model's scores have no gradient with respect to its layers: it runs under "
                        "no_grad, detaches its features or rounds them; no channel's effect can be told"
                    )
                gates = [visit.gates[name] for name in by_layer]
                slopes = torch.autograd.grad(margins.sum(), gates, materialize_grads=True, allow_unused=True)
            all_margins.append(margins.detach())
            moved.append(slopes)
        together = {
            name: np.asarray(torch.cat([m[i] for m in moved]).cpu().numpy(), np.float64)
            for i, name in enumerate(by_layer)
        }
        return np.asarray(torch.cat(all_margins).cpu().numpy(), np.float64), together

    def _gates(self, keep: Keep | None) -> dict[str, Tensor]:
        """Gates as numbers, in the order in which the layers run."""
        values = keep or {}
        for name, gate in values.items():
            if gate.shape != (self.layer(name).channels,):
                raise InputError(
                    f"the gates of layer {name!r} have shape {gate.shape}; it has "
                    f"{self.layer(name).channels} channels"
                )
        names = [layer.name for layer in self.layers if layer.name in values]
        return {n: torch.as_tensor(values[n], dtype=torch.float32, device=self.device) for n in names}

    def _batches(self, samples: Ints) -> list[Tensor]:
        starts = range(0, len(samples), self._batch)
        return [self.images[samples[i : i + self._batch]].to(self.device) for i in starts]

    def _margin(self, batch: Tensor) -> Tensor:
        logits = find_logits(self.model(batch.clone()), self._output).float()
        require_finite(logits)
        return margin(logits, self._task, self._positive)


class _Visit:
    """Puts gates on layers' outputs, one for every sample and channel."""

    def __init__(
        self, keep: Mapping[str, Tensor], reference: ChannelReference | None, n: int, *, gradient: bool
    ) -> None:
        self.gates = {name: k.expand(n, -1).clone().requires_grad_(gradient) for name, k in keep.items()}
        self._reference = reference

    def __call__(self, layer: Layer, values: Tensor) -> Tensor:
        assert self._reference is not None, "channels are held at a reference"
        view, dim = positions(layer, values)
        mean = self._reference.mean[layer.name].to(view.dtype)
        gate = self.gates[layer.name].to(view.dtype)
        if dim == 1:
            gated = mean.T + gate.unsqueeze(1) * (view - mean.T)
        else:
            gated = mean + gate.unsqueeze(2) * (view - mean)
        return from_positions(layer, gated, dim, values)


def _flat(layer: Layer, values: Tensor) -> Tensor:
    """(N, C, P)."""
    view, dim = positions(layer, values.detach())
    return view if dim == 2 else view.transpose(1, 2)
