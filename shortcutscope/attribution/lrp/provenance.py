"""Where a tensor comes from, read off the graph: no marks on the network's tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

#: Nodes through which values pass unchanged, or scaled as a whole.
_CARRYING = (
    "View",
    "UnsafeView",
    "Reshape",
    "Transpose",
    "T",
    "Permute",
    "Expand",
    "Unsqueeze",
    "Squeeze",
    "Clone",
    "Select",
    "Slice",
    "Split",
    "Unbind",
    "Alias",
    "ToCopy",
    "NativeDropout",
    "Share",
    "Repeat",
)
_POOLS = tuple(f"{kind}{dims}D" for dims in (1, 2, 3) for kind in ("AvgPool", "AdaptiveAvgPool"))
_POOLS += ("MaxPool2DWithIndices", "MaxPool3DWithIndices", "Mean")
_GATES = (
    "Softmax",
    "Sigmoid",
    "Hardsigmoid",
    "Rsqrt",
    "Reciprocal",
    "SafeSoftmax",
    "GateRescale",
    "GateRescaleInPlace",
)
_LINEAR = ("Convolution", "Addmm", "Linear", "RuledAffine", "Mm", "Bmm", "Addbmm", "Baddbmm")


def is_gate(tensor: Tensor) -> bool:
    """Whether a tensor holds weights (of a softmax, a sigmoid) that scale others, rather than a signal."""
    node = tensor.grad_fn
    while node is not None and _carries(node):
        node = _first_input(node)
    return node is not None and _kind(node) in _GATES


def is_rectified(tensor: Tensor) -> bool:
    """Whether a tensor is known to hold no negative value: a ReLU's output, maybe pooled."""
    node = tensor.grad_fn
    while node is not None and _kind(node) in (*_CARRYING, *_POOLS):
        node = _first_input(node)
    return node is not None and _kind(node) == "Relu"


def reads_image(tensor: Tensor) -> Tensor | None:
    """The graph's leaf that a tensor is made of without a linear map in between, else None."""
    waiting, visited = [tensor.grad_fn], set()
    leaf: Tensor | None = tensor if tensor.grad_fn is None and tensor.requires_grad else None
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if _kind(node) in _LINEAR:
            return None
        leaf = getattr(node, "variable", leaf)
        waiting += [following for following, _ in node.next_functions]
    return leaf


def call_behind(tensor: Tensor) -> Any | None:
    """The `Affine` call whose output this very tensor is, else None."""
    return getattr(tensor.grad_fn, "call", None) if _is_affine(tensor.grad_fn) else None


def _is_affine(node: Node | None) -> bool:
    return node is not None and _kind(node) == "RuledAffine"


def _kind(node: Node) -> str:
    name: str = node.name()
    name = name.removesuffix("0").removesuffix("1")
    return name.removesuffix("Backward")


def _carries(node: Node) -> bool:
    kind = _kind(node)
    if kind in ("Mul", "Div"):  # by a constant: the other operand has no graph
        return sum(following is not None for following, _ in node.next_functions) == 1
    return kind in _CARRYING


def _first_input(node: Node) -> Node | None:
    return next((following for following, _ in node.next_functions if following is not None), None)
