"""A network whose layers are edited as it runs, and which can be had back as it was."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shortcutscope.debias.clarc.activations import parts_of
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.scan.pooling import from_positions, positions
from shortcutscope.types import Record


class Edit(nn.Module, ABC):
    """Base of what is done to activations (N, C, P); its state is in buffers.

    `edited` is no `forward`, so that hooks which watch a network's modules do not take an edit for one.
    """

    kind: ClassVar[str]

    def __init__(self, **buffers: Tensor) -> None:
        super().__init__()
        for name, values in buffers.items():
            self.register_buffer(name, torch.as_tensor(values).detach().to(torch.float32).clone())

    @abstractmethod
    def edited(self, values: Tensor) -> Tensor:
        """Activations (N, C, P) of the same shape."""

    def _like(self, values: Tensor, *names: str) -> list[Tensor]:
        return [getattr(self, name).to(values) for name in names]


class Shift(Edit):
    """Moves every sample along v until its pooled score is z: ``a + (z - v . pool(a)) v`` everywhere.

    The projection of P-ClArC (Anders et al. 2022). With `weights`, only samples with
    ``weights . pool(a) + intercept > 0`` are moved, the others stay to the bit (reactive, Bareeva et al.
    2024).

    Parameters
    ----------
    direction
        v (C,), which is scaled to unit length.
    target
        z, the score of v / |v| that samples without the concept have.
    weights, intercept
        (C,) and scalar, of the classifier of the concept on pooled activations.

    Raises
    ------
    InputError
        A direction of length 0, or weights without their intercept.
    """

    kind = "shift"
    direction: Tensor
    target: Tensor

    def __init__(
        self,
        direction: Tensor,
        target: Tensor,
        weights: Tensor | None = None,
        intercept: Tensor | None = None,
    ) -> None:
        length = torch.linalg.vector_norm(torch.as_tensor(direction).double())
        if not length > 0:
            raise InputError("the direction has length 0; the layer does not tell the concept")
        if (weights is None) != (intercept is None):
            raise InputError("a gate is its weights and their intercept; give both, or neither")
        gate = {} if weights is None or intercept is None else {"weights": weights, "intercept": intercept}
        super().__init__(direction=torch.as_tensor(direction).double() / length, target=target, **gate)
        self._gated = bool(gate)

    def gate(self, values: Tensor) -> Tensor:
        """Whether each sample of (N, C, P) is moved, (N,) bool."""
        if not self._gated:
            return torch.ones(len(values), dtype=torch.bool, device=values.device)
        weights, intercept = self._like(values, "weights", "intercept")
        return values.mean(2) @ weights + intercept > 0

    def edited(self, values: Tensor) -> Tensor:  # noqa: D102
        direction, target = self._like(values, "direction", "target")
        missing = target - values.mean(2) @ direction
        moved = values + missing[:, None, None] * direction[:, None]
        return torch.where(self.gate(values)[:, None, None], moved, values)


class Erasure(Edit):
    """An affine map at every position: ``a - left right (a - mean)``.

    Parameters
    ----------
    left, right
        (C, K) and (K, C).
    mean
        (C,).
    """

    kind = "erasure"

    def __init__(self, left: Tensor, right: Tensor, mean: Tensor) -> None:
        super().__init__(left=left, right=right, mean=mean)

    def edited(self, values: Tensor) -> Tensor:  # noqa: D102
        left, right, mean = self._like(values, "left", "right", "mean")
        return values - left @ (right @ (values - mean[:, None]))


KINDS: dict[str, type[Edit]] = {edit.kind: edit for edit in (Shift, Erasure)}


class LayerEdit(nn.Module):
    """The edits of one layer: of the positions in the image, and of class tokens if it has some.

    Parameters
    ----------
    layer
        As `find_layers` gives it.
    edits
        One for each of the layer's `parts_of`.
    """

    def __init__(self, layer: Layer, edits: Sequence[Edit]) -> None:
        super().__init__()
        if len(edits) != len(parts_of(layer)):
            raise InputError(f"{len(edits)} edits for the {len(parts_of(layer))} parts of {layer.name!r}")
        self.layer = layer
        self.edits = nn.ModuleList(edits)

    def edited(self, output: object) -> object:
        """What the layer's module returned, edited."""
        tensor = self.layer.pick(output)
        view, dim = positions(self.layer, tensor)
        flat = view if dim == 2 else view.transpose(1, 2)
        flat = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
        with torch.autocast(flat.device.type, enabled=False):
            done = [
                edit.edited(flat[..., part])  # type: ignore[operator]
                for edit, part in zip(self.edits, parts_of(self.layer), strict=True)
            ]
        whole = done[0] if len(done) == 1 else torch.cat(done[::-1], dim=2)
        back = from_positions(self.layer, whole if dim == 2 else whole.transpose(1, 2), dim, tensor)
        return self.layer.replace(output, back)


class Projected(nn.Module):
    """A network that is edited while it runs, without training.

    It holds the very model that it is given, and leaves its weights, modes and hooks alone: hooks stand
    only during a forward pass, in which the model is in evaluation mode, as it was when the edits were
    fitted. Whoever watches an edited layer sees what the network goes on with, that is the edited output.
    Its layers are those of the model, with ``model.`` before their names.

    Parameters
    ----------
    model
        Shared, not copied: moving or training it moves and trains it here, too.
    edits
        In the order in which their layers run.
    """

    def __init__(self, model: nn.Module, edits: Sequence[LayerEdit] = ()) -> None:
        super().__init__()
        self.model = model
        self.layer_edits = nn.ModuleList(edits)
        self.training = False

    def train(self, mode: bool = True) -> Projected:  # a plain `train` would reach into the model
        """Set the wrapper's own flag; the model keeps its modes, and runs in evaluation mode."""
        self.training = mode
        return self

    def forward(self, *inputs: object, **named: object) -> Any:
        """What the model returns, with its layers edited."""
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.model))
            for edit in self.layer_edits:
                assert isinstance(edit, LayerEdit)
                module = self.model.get_submodule(edit.layer.name)
                # In front of all other hooks, so that they see the edited output.
                stack.enter_context(module.register_forward_hook(_hook(edit), prepend=True))
            return self.model(*inputs, **named)

    def remove(self) -> nn.Module:
        """Give the original model back; the wrapper forgets its edits."""
        self.layer_edits = nn.ModuleList()
        return self.model

    def save(self, path: str | Path) -> Path:
        """Write the edits, without the model's weights, as a safetensors file."""
        path = Path(path)
        layers, tensors = [], {}
        for i, edit in enumerate(self.layer_edits):
            assert isinstance(edit, LayerEdit)
            layers.append({"layer": asdict(edit.layer), "kinds": [part.kind for part in edit.edits]})
            for name, values in edit.edits.state_dict().items():
                tensors[f"{i}.{name}"] = values.contiguous()
        save_file(tensors, path, metadata={"layers": json.dumps(layers)})
        return path

    @classmethod
    def open(cls, path: str | Path, model: nn.Module) -> Projected:
        """Put the edits that `save` wrote around a model.

        Raises
        ------
        InputError
            No such file, or the model lacks one of the layers.
        """
        with intact(path, "a file of a network's edits", "make the student again"):
            with safe_open(path, framework="pt") as file:
                layers = json.loads((file.metadata() or {})["layers"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            edits = [_layer_edit(entry, i, tensors) for i, entry in enumerate(layers)]
        modules = dict(model.named_modules())
        for edit in edits:
            if edit.layer.name not in modules:
                raise InputError(f"{path} edits the layer {edit.layer.name!r}, which the model lacks")
        return cls(model, edits)


def _layer_edit(entry: Record, i: int, tensors: dict[str, Tensor]) -> LayerEdit:
    fields: Record = {key: tuple(v) if isinstance(v, list) else v for key, v in entry["layer"].items()}
    edits = []
    for part, kind in enumerate(entry["kinds"]):
        start = f"{i}.{part}."
        edits.append(KINDS[kind](**{n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}))
    return LayerEdit(Layer(**fields), edits)


def _hook(edit: LayerEdit) -> Callable[[nn.Module, object, object], object]:
    def hook(module: nn.Module, inputs: object, output: object) -> object:
        return edit.edited(output)

    return hook


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, flag by flag, as `frozen` does it."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True
