"""LRP by operation: every operation gets its rule wherever it is called from.

A function mode sees each call of a torch operation while the network runs, and gives those that need one a
backward of their own. Classes, names and canonizers play no part, so functional calls, reused modules, inline
sums and operations in place are treated like modules. Rule-less operations (sums, pooling, ReLU, reshaping,
products with constants) keep their gradient, which is the LRP-0 rule; residual connections follow from
the accumulation of gradients.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from shortcutscope.attribution.lrp.composites import Composite, composite_for
from shortcutscope.attribution.lrp.functions import Affine
from shortcutscope.attribution.lrp.operations import TABLE
from shortcutscope.attribution.lrp.provenance import call_behind
from shortcutscope.attribution.lrp.saved import SavedTensors
from shortcutscope.types import Arguments, Operation, Record

_HAS_NONE = {
    name: lambda *arguments, **options: False
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
}
_opened: dict[Operation, Operation] = {}


class Propagation(TorchFunctionMode):
    """The mode in which a network's forward pass prepares a relevance propagation.

    Parameters
    ----------
    composite
        The rules.
    measure
        Also take down what biases absorb.

    Attributes
    ----------
    calls
        Of convolutions and linear layers with a rule, in order.
    on_attention
        Called with the output of each attention, (N, heads, tokens, width), when it is made.
    """

    def __init__(self, composite: Composite, *, measure: bool = False) -> None:
        super().__init__()
        self.composite = composite
        self.measure = measure
        self.saved = SavedTensors()
        self.calls: list[Affine] = []
        self.on_attention: Callable[[Tensor], None] | None = None

    def __torch_function__(
        self,
        func: Operation,
        types_: object,
        args: Arguments = (),
        kwargs: Record | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = operation_name(func)
        if isinstance(func, types.FunctionType) and func.__globals__ is functional.__dict__:
            with self:
                return _open(func)(*args, **kwargs)
        return self.operate(name, func, args, kwargs)

    def operate(self, name: str, func: Operation, args: Arguments, kwargs: Record) -> Any:
        """Call one operation, by its rule if it has one."""
        stored, in_place = [], is_in_place(func)
        if in_place and args and isinstance(args[0], Tensor):
            whole = name == "relu" and call_behind(args[0]) is not None  # and no view of it
            stored = self.saved.overwriting(args[0], rectified=whole)
        read = [tensor.grad_fn for tensor in tensors_in((args, kwargs)) if call_behind(tensor) is not None]
        rule = TABLE.get(name)
        result = func(*args, **kwargs) if rule is None else rule(self, func, *args, **kwargs)
        for saved in stored:
            saved.accept()
        if read and (in_place or any(tensor.requires_grad for tensor in tensors_in(result))):
            for node in read:
                node.readers += 1  # type: ignore[union-attr]
        return result

    def input_relevance(self, x: Tensor, gradient: Tensor | None) -> Tensor:
        """Relevance of the model's input, after the backward pass.

        Parameters
        ----------
        x
            The input (N, ...).
        gradient
            That arrived at it; None if none did.

        Returns
        -------
        relevance
            In the shape of `x`: x times gradient, plus what rules of the first layer gave to the pixels
            directly.
        """
        relevance = torch.zeros_like(x) if gradient is None else x.detach() * gradient
        for call in self.calls:
            if call.delivered is not None:
                relevance = relevance + call.delivered
                call.delivered = None
        return relevance


@contextmanager
def propagation(composite: Composite | None) -> Iterator[Propagation | None]:
    """Run a network so that an ordinary backward pass carries relevance.

    Inside, the network's outputs are what they always are. A backward pass from a score of it (inside or
    afterwards) then gives every tensor a gradient with which its product is its relevance.

    Parameters
    ----------
    composite
        The rules; None changes nothing, so that a gradient stays one.
    """
    if composite is None:
        yield None
        return
    with Propagation(composite) as run:
        yield run


def default_composite(model: nn.Module, x: Tensor) -> Composite:
    """The composite that suits a network, by the operations that it calls.

    Parameters
    ----------
    model
        In evaluation mode.
    x
        A batch for it; one image will do.
    """
    with torch.no_grad(), _Recorder() as recorder:
        model(x.detach().clone())
    return composite_for(recorder.names)


class _Recorder(TorchFunctionMode):
    """Takes down the names of the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(
        self,
        func: Operation,
        types_: object,
        args: Arguments = (),
        kwargs: Record | None = None,
    ) -> Any:
        self.names.add(operation_name(func))
        return func(*args, **(kwargs or {}))


def operation_name(func: Operation) -> str:
    """The name of an operation, the same for its function, method, operator and in-place form."""
    name = getattr(func, "__name__", type(func).__name__)
    bare = name.strip("_")
    in_place = {"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "div", "ipow": "pow"}
    return _SYNONYMS.get(bare, in_place.get(bare, bare))


_SYNONYMS = {
    "multiply": "mul",
    "rmul": "mul",
    "truediv": "div",
    "divide": "div",
    "true_divide": "div",
    "rmatmul": "matmul",
}


def is_in_place(func: Operation) -> bool:
    """Whether an operation overwrites its first argument."""
    name: str = getattr(func, "__name__", "")
    if name.startswith("__"):
        return name == "__setitem__" or (name.startswith("__i") and name not in ("__invert__", "__init__"))
    return name.endswith("_")


def tensors_in(value: object) -> list[Tensor]:
    """All tensors among an operation's arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return (
        [tensor for part in value for tensor in tensors_in(part)] if isinstance(value, tuple | list) else []
    )


def _open(func: Operation) -> Operation:
    """A composite function of torch.nn.functional that hands its inner operations to the mode.

    The function itself asks whether a mode is active and, if so, hands over the whole call; a copy whose
    questions are answered with no goes on to its body.
    """
    if func not in _opened:
        assert isinstance(func, types.FunctionType)
        copy = types.FunctionType(
            func.__code__, func.__globals__ | _HAS_NONE, func.__name__, func.__defaults__, func.__closure__
        )
        copy.__kwdefaults__ = func.__kwdefaults__
        _opened[func] = copy
    return _opened[func]
