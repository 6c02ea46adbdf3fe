"""What a neuron looks at: the part of the image that it depends on, where it is most active or relevant.

The receptive field is measured and not derived from kernel sizes: it is where the gradient of the unit at the
position of its maximum is not zero, which also holds for networks with branches. Most of it hardly matters
(Luo et al. 2016), so the box that holds most of the gradient, the effective receptive field, is what is cut
out. Attention makes every token depend on the whole image; a token's field is its own patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.attribution.hooks import visiting
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import find_logits, select_target
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.types import Array, Floats

Box = tuple[tuple[int, int], ...]

#: Share of the gradient that a field holds.
COVERAGE = 0.95
BATCH = 16


@dataclass(frozen=True, eq=False)
class Field:
    """What a neuron sees of one sample, where it is most active or most relevant.

    Attributes
    ----------
    sample_id
        The sample.
    position
        Of the maximum in the layer's grid; empty for a neuron without positions.
    activation
        Of the neuron there.
    box
        First pixel and first pixel after the field, along every axis of the image.
    image
        (channels, ...) the whole image, as the table holds it; as the model takes it where the table's
        transform changes its size.
    heat
        (...) share of the gradient at every pixel of the whole image, summing to one; all zero where the
        neuron does not depend on the image there (a rectified neuron that is off).
    """

    sample_id: str
    position: tuple[int, ...]
    activation: float
    box: Box
    image: Floats
    heat: Floats

    @property
    def crop(self) -> Floats:
        """(channels, ...) the image within the box."""
        return self.image[(slice(None), *_slices(self.box))]

    @property
    def heat_crop(self) -> Floats:
        """(...) the heat within the box."""
        return self.heat[_slices(self.box)]


def crops(
    model: nn.Module,
    table: ImageTable,
    layer: str | Layer,
    channel: int,
    samples: Sequence[str | int] | Array,
    *,
    by: str = "activation",
    coverage: float = COVERAGE,
    output: Output = None,
    batch_size: int = BATCH,
) -> list[Field]:
    """Cut samples to the receptive field of a neuron, where it is most active or relevant on them.

    Parameters
    ----------
    model
        Comes back as it was.
    table
        Holds the samples; images, volumes or signals.
    layer
        Name or layer.
    channel
        The neuron.
    samples
        Sample ids, such as :func:`shortcutscope.discover.neurons.top_samples` gives, or rows of the table.
    by
        ``"activation"``: the field of the position where the neuron is most active; ``"relevance"``: of that
        where its gradient x activation for the predicted class is largest.
    coverage
        Share of the absolute gradient that the box holds at least; 1 for all that the neuron depends on.
    output
        Which part of the model's output holds the scores, see
        :func:`shortcutscope.models.heads.targets.find_logits`.
    batch_size
        Images in one pass.

    Returns
    -------
    fields
        One per sample, in their order.

    Raises
    ------
    InputError
        There is no such sample or channel, none is given, the coverage is no share, or `by` something else.
    """
    rows = _rows(table, samples)
    if not 0 < coverage <= 1:
        raise InputError(f"coverage is {coverage}; a share above 0 and at most 1 is needed")
    if by not in ("activation", "relevance"):
        raise InputError(f"by is {by!r}; allowed are 'activation' and 'relevance'")
    fields: list[Field] = []
    with frozen(model):
        device = device_of(model)
        for i in range(0, len(rows), batch_size):
            batch = rows[i : i + batch_size]
            x = torch.stack([table[row][0] for row in batch]).to(device)
            if not isinstance(layer, Layer):
                (layer,) = find_layers(model, x[:1], [layer], output=output)
            if not 0 <= channel < layer.channels:
                raise InputError(
                    f"channel {channel} of layer {layer.name!r}; allowed are 0 to {layer.channels - 1}"
                )
            peaks, where, gradient = unit_gradients(model, x, layer, channel, by=by, output=output)
            for k, row in enumerate(batch):
                fields.append(
                    _field(table, row, x[k], layer, float(peaks[k]), where[k], gradient[k], coverage)
                )
    return fields


def unit_gradients(
    model: nn.Module,
    x: Tensor,
    layer: Layer,
    channel: int,
    *,
    by: str = "activation",
    output: Output = None,
) -> tuple[Tensor, list[tuple[int, ...]], Floats]:
    """Activation of a channel at one position a sample, and how it depends on the input.

    Parameters
    ----------
    model
        Lent out by :func:`shortcutscope.models.frozen.frozen`.
    x
        A batch (N, channels, ...).
    layer, channel
        The neuron.
    by, output
        As in :func:`crops`.

    Returns
    -------
    activations
        (N,) where the activation, or the relevance, is largest.
    where
        Position of each in the layer's grid.
    gradient
        (N, ...) absolute gradient of each with respect to its image, summed over colours.
    """
    outputs: list[Tensor] = []

    def visit(layer: Layer, values: Tensor) -> Tensor | None:
        outputs.append(values)
        # What is written over afterwards must not be what the gradient is taken of.
        return values.clone() if layer.overwritten else None

    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad(), visiting(model, [layer], visit):
        result = model(leaf.clone())  # a copy, since a model may normalise its input in place
    (values,) = outputs
    decisive = values.detach()
    if by == "relevance":
        score, _ = select_target(find_logits(result, output), "predicted")
        (slope,) = torch.autograd.grad(score.sum(), values, retain_graph=True)
        decisive = slope * decisive
    index = _of_channel(layer, decisive, channel).argmax(1)
    with torch.enable_grad():
        units = _of_channel(layer, values, channel).gather(1, index[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(units.sum(), leaf)
    where = [
        tuple(int(p) for p in np.unravel_index(int(i), layer.grid)) if layer.grid else () for i in index.cpu()
    ]
    return units.detach().cpu(), where, gradient.abs().sum(1).float().cpu().numpy()


def _of_channel(layer: Layer, values: Tensor, channel: int) -> Tensor:
    """(N, positions)."""
    return layer.channels_first(values)[:, channel].reshape(len(values), -1)


def covering_box(mass: Array, coverage: float = COVERAGE) -> Box:
    """Small box that holds a share of a mass: everything outside is cut off face by face, the lightest first.

    Parameters
    ----------
    mass
        Not negative, of any number of dimensions.
    coverage
        Share that stays at least; 1 for the box around all that is not zero.

    Returns
    -------
    box
        The whole where there is no mass.
    """
    box = [[0, size] for size in mass.shape]
    mass = mass.astype(np.float64)
    spare = (1 - coverage) * mass.sum()
    if not mass.any():
        return tuple((start, stop) for start, stop in box)
    while True:
        inside = mass[_slices(box)]
        faces = []
        for axis in range(mass.ndim):
            along = inside.sum(axis=tuple(k for k in range(mass.ndim) if k != axis))
            if len(along) > 1:
                faces += [(along[0], axis, 0), (along[-1], axis, 1)]
        lightest, axis, side = min(faces, default=(np.inf, 0, 0))
        if lightest > spare:
            return tuple((start, stop) for start, stop in box)
        spare -= lightest
        box[axis][side] += -1 if side else 1


def _field(
    table: ImageTable,
    row: int,
    x: Tensor,
    layer: Layer,
    peak: float,
    position: tuple[int, ...],
    gradient: Floats,
    coverage: float,
) -> Field:
    image = table.image(row)
    if image.shape[1:] != x.shape[1:]:
        image = x.cpu().float()
    size = tuple(image.shape[1:])
    if (layer.layout == "tokens" or not gradient.any()) and len(layer.grid) == len(size):
        box = _cell(position, layer.grid, size)
    else:
        box = covering_box(gradient, coverage)
    total = float(gradient.sum())
    heat = gradient / total if total > 0 else gradient
    name = str(table.frame["sample_id"].iloc[row])
    return Field(name, position, peak, box, image.numpy().astype(np.float32), heat.astype(np.float32))


def _cell(position: tuple[int, ...], grid: tuple[int, ...], size: tuple[int, ...]) -> Box:
    """The part of the image that a position of the grid lies over."""
    return tuple(
        (p * side // cells, max(-(-(p + 1) * side // cells), p * side // cells + 1))
        for p, cells, side in zip(position, grid, size, strict=True)
    )


def _slices(box: Sequence[Sequence[int]]) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)


def _rows(table: ImageTable, samples: Sequence[str | int] | Array) -> list[int]:
    if not len(samples):
        raise InputError("no samples are given; name those to look at, by sample id or row")
    place = {name: row for row, name in enumerate(table.frame["sample_id"])}
    rows = [place.get(s, -1) if isinstance(s, str) else int(s) for s in samples]
    unknown = [s for s, row in zip(samples, rows, strict=True) if not 0 <= row < len(table)]
    if unknown:
        raise InputError(f"the table of {len(table)} samples has no sample {unknown[0]!r}")
    return rows
