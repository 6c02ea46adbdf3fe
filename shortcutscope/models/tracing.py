"""One forward pass of a few samples, written down: which modules ran, in which order, and what they gave."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.failures import REENTRANT
from shortcutscope.models.frozen import frozen, version
from shortcutscope.models.heads.head import Head, Output
from shortcutscope.models.heads.targets import require_finite
from shortcutscope.models.outputs import Path, find_scores, first_float, pick
from shortcutscope.models.plain import require_plain
from shortcutscope.types import Arguments

N_SAMPLES = 2


@dataclass(eq=False)
class Call:
    """One run of one module.

    Attributes
    ----------
    name, module
        As in ``model.named_modules()``.
    inner
        The modules that ran inside it, in the order in which they finished.
    tensor
        The first floating-point tensor of its output whose first dimension is the batch, or ``None``.
    path
        Where it lies in the output.
    inputs
        The floating-point tensors among its positional arguments.
    is_view
        Whether the output is memory that an earlier module had already given (identity, flatten, dropout
        in evaluation mode): the module computed nothing.
    overwritten
        Whether the tensor was changed in place after the module had returned it.
    influences
        Whether the logits are a differentiable function of the tensor, and the tensor of the image.
    leaves
        Number of modules without inner calls that had finished when this one did.
    """

    name: str
    module: nn.Module
    inner: list[Call] = field(default_factory=list)
    tensor: Tensor | None = None
    path: Path = ()
    inputs: tuple[Tensor, ...] = ()
    is_view: bool = False
    overwritten: bool = False
    influences: bool = True
    leaves: int = 0

    @property
    def kind(self) -> str:
        """Class name of the module."""
        return type(self.module).__name__

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor of one sample."""
        return () if self.tensor is None else tuple(self.tensor.shape[1:])

    def descendants(self) -> Iterator[Call]:
        """All calls inside this one, in the order in which they finished."""
        for call in self.inner:
            yield from call.descendants()
            yield call


@dataclass(frozen=True)
class Trace:
    """What one forward pass did.

    Attributes
    ----------
    root
        The call of the model itself.
    calls
        All others, in the order in which they finished.
    image
        The traced batch.
    logits
        Its scores, shape (n, K).
    """

    root: Call
    calls: tuple[Call, ...]
    image: Tensor
    logits: Tensor

    def of(self, module: nn.Module) -> list[Call]:
        """The calls of one module."""
        return [call for call in self.calls if call.module is module]

    def once(self) -> list[Call]:
        """The calls of modules that ran exactly once."""
        runs: dict[nn.Module, int] = {}
        for call in self.calls:
            runs[call.module] = runs.get(call.module, 0) + 1
        return [call for call in self.calls if runs[call.module] == 1]

    def is_result(self, call: Call) -> bool:
        """Whether the call's tensor is what the model returns."""
        return call.tensor is not None and _memory(call.tensor) == _memory(self.logits)


def trace(model: nn.Module, example: Tensor, output: Output = None) -> Trace:
    """Run the first samples of a batch through a model and record every module's call.

    Parameters
    ----------
    model
        Runs in evaluation mode with in-place modules switched off, and is given back as it was.
    example
        One batch as the model takes it, first dimension the samples. At most two of them are used.
    output
        Which part of the output holds the scores, see `find_scores`.

    Raises
    ------
    InputError
        The batch is empty, or its channel count is not the one the model takes.
    ModelError
        The model is compiled, scripted or wrapped for several devices, fails on the batch, or returns NaN.
    """
    require_plain(model)
    if example.dim() < 2 or not len(example):
        raise InputError(
            f"example has shape {tuple(example.shape)}; give one batch, for instance (N, C, H, W)"
        )
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(frozen(model))
        recorder = stack.enter_context(_recording(model))
        image = _on_device_of(model, example[:N_SAMPLES])
        recorder.batch = len(image)
        source = image.detach().clone()
        if source.is_floating_point():
            # A clone, since a model may normalise its input in place, which a leaf would refuse.
            source = source.requires_grad_().clone()
        result = model(source)
        logits = find_scores(result, output.part if isinstance(output, Head) else output)
    if len(logits) != len(image):
        raise ModelError(
            f"the model returns {len(logits)} rows of scores for {len(image)} samples; it must score each one"
        )
    recorder.finish(logits)
    _require_finite(logits, recorder.calls)
    return Trace(recorder.root, tuple(recorder.calls), image, logits.detach())


class _Recorder:
    def __init__(self) -> None:
        self.open: list[Call] = []
        self.calls: list[Call] = []
        self.root = Call("", nn.Identity())
        self.batch = 0
        self.leaves = 0
        self.given: dict[tuple[object, ...], int | None] = {}
        self.origins: dict[Call, tuple[Node | None, int | None]] = {}

    def enter(self, name: str, module: nn.Module, args: Arguments) -> None:
        inputs = tuple(a for a in args if isinstance(a, Tensor) and a.is_floating_point())
        for tensor in inputs:
            self.given[_storage(tensor)] = version(tensor)
        self.open.append(Call(name, module, inputs=inputs))

    def leave(self, result: object) -> None:
        call = self.open.pop()
        self.leaves += not call.inner
        call.leaves = self.leaves
        path = first_float(result, self.batch)
        if path is not None:
            self._keep(call, pick(result, path), path)
        if not self.open:
            self.root = call
            return
        self.calls.append(call)
        self.open[-1].inner.append(call)

    def _keep(self, call: Call, tensor: Tensor, path: Path) -> None:
        call.tensor, call.path = tensor, path
        # The graph node as of now: writing into the tensor later gives it another one.
        self.origins[call] = (tensor.grad_fn, version(tensor))
        memory, count = _storage(tensor), version(tensor)
        call.is_view = memory in self.given and self.given[memory] == count
        self.given[memory] = count

    def finish(self, logits: Tensor) -> None:
        reached = _ancestors(logits)
        if any(type(node).__name__ == "CheckpointFunctionBackward" for node in reached):
            raise ModelError(f"the model's layers cannot be followed. {REENTRANT}")
        for call, (node, count) in self.origins.items():
            assert call.tensor is not None
            call.overwritten = version(call.tensor) != count
            # A model that runs under no_grad tells nothing about what depends on what.
            call.influences = logits.grad_fn is None or node in reached


@contextmanager
def _recording(model: nn.Module) -> Iterator[_Recorder]:
    recorder = _Recorder()

    def hooks(name: str, module: nn.Module) -> None:
        def before(module: nn.Module, args: Arguments) -> None:
            recorder.enter(name, module, args)

        def after(module: nn.Module, args: Arguments, result: object) -> None:
            recorder.leave(result)

        # The model is on loan from frozen(), which takes these hooks off again.
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    for name, module in model.named_modules():
        hooks(name, module)
    yield recorder


def _require_finite(logits: Tensor, calls: list[Call]) -> None:
    try:
        require_finite(logits)
    except ModelError as error:
        first = next((c for c in calls if c.tensor is not None and not torch.isfinite(c.tensor).all()), None)
        where = f"; the first module to return them is {first.name!r} ({first.kind})" if first else ""
        raise ModelError(f"{error}{where}") from None


def _on_device_of(model: nn.Module, image: Tensor) -> Tensor:
    parameter = next(model.parameters(), None)
    return image if parameter is None else image.to(parameter.device)


def _ancestors(tensor: Tensor) -> set[Node]:
    """All nodes of the autograd graph that a tensor was computed through."""
    reached: set[Node] = set()
    stack = [tensor.grad_fn]
    while stack:
        node = stack.pop()
        if node is not None and node not in reached:
            reached.add(node)
            stack.extend(parent for parent, _ in node.next_functions)
    return reached


def _storage(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.untyped_storage().data_ptr(), tensor.numel())


def _memory(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.data_ptr(), tensor.numel())
