"""Where relevance goes: what every operation of a network absorbs, and whether any operation was missed.

An operation's defect is the relevance of its outputs minus that of its inputs, sum y g_y - sum x g_x. Summed
over all operations the inner tensors cancel: score = relevance of the input + sum of defects. What remains
proves that something took part that the function mode did not see (scripted code, custom autograd functions,
checkpointing), whose relevance nobody knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

from shortcutscope.attribution.hooks import parameters_without_gradient
from shortcutscope.attribution.lrp.composites import Composite
from shortcutscope.attribution.lrp.functions import Affine
from shortcutscope.attribution.lrp.mode import Propagation, tensors_in
from shortcutscope.attribution.lrp.operations import TABLE
from shortcutscope.attribution.lrp.scope import ModuleScope
from shortcutscope.errors import ModelError
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import Target, find_logits, select_target
from shortcutscope.types import Arguments, Operation, Record

#: Operations without a rule that put constants beside the relevance of activations.
ADDING = frozenset(
    [
        "add",
        "sub",
        "rsub",
        "cat",
        "concat",
        "concatenate",
        "stack",
        "pad",
        "where",
        "masked_fill",
        "setitem",
        "copy",
        "index_put",
        "scatter",
        "addmm",
    ]
)

#: Linear maps and norms, whose constants are biases.
BIASED = frozenset({"linear", "batch_norm", "layer_norm", "group_norm", "instance_norm", "baddbmm"})
BIASED |= {f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)}


@dataclass
class _Record:
    module: str
    operation: str
    has_constant: bool
    absorbed: list[Tensor] = field(default_factory=list)
    call: Affine | None = None
    rescaled: bool = False


@dataclass(frozen=True)
class Defects:
    """Where the relevance of a batch went.

    Attributes
    ----------
    score
        Sum of the explained scores.
    input_relevance
        Sum of the relevance that reached the input.
    table
        One row an operation that absorbed anything, the largest first: ``module``, ``operation``, ``kind``
        and ``absorbed``. Kinds: ``"bias"`` of a linear map or norm; ``"constant"``, such as a position
        embedding, a class token or f(0) of an activation function; ``"rule"``, the stabiliser, or a rule
        that does not conserve; ``"no rule"``, an operation that has none.
    remainder
        score - input_relevance - sum of ``absorbed``: 0 unless something bypassed the rules.
    """

    score: float
    input_relevance: float
    table: pd.DataFrame
    remainder: float

    def absorbed(self, *kinds: str) -> float:
        """What operations of these kinds absorbed, with its sign."""
        return float(self.table.loc[self.table["kind"].isin(kinds), "absorbed"].sum(skipna=False))


class _Audited(Propagation):
    """Takes down the relevance at both ends of every operation, without changing the graph."""

    def __init__(self, composite: Composite, scope: ModuleScope) -> None:
        super().__init__(composite, measure=True)
        self._scope = scope
        self._seen: dict[tuple[Node, int], Tensor] = {}
        self.records: list[_Record] = []

    def watch(self, tensor: Tensor) -> Tensor:
        """Let a tensor be an end; gives its value, which the network may overwrite."""
        value = self._seen[_edge(tensor)] = tensor.detach().clone()
        return value

    def operate(self, name: str, func: Operation, args: Arguments, kwargs: Record) -> Any:
        """See `Propagation.operate`."""
        result = super().operate(name, func, args, kwargs)
        outputs = [tensor for tensor in tensors_in(result) if _flows(tensor)]
        new = [tensor for tensor in outputs if _edge(tensor) not in self._seen]
        if new:
            constants = [value for value in _values((args, kwargs)) if _is_constant(value)]
            self._record(_Record(self._scope.current, name, bool(constants)), new)
        return result

    def _record(self, record: _Record, outputs: list[Tensor]) -> None:
        self.records.append(record)
        waiting = [_edge(tensor)[0] for tensor in outputs]
        if len(waiting) == 1 and (call := getattr(waiting[0], "call", None)) is not None:
            record.call = call
        record.rescaled = any(node.name().startswith(("Rescale", "Gate")) for node in waiting)
        visited: set[Node] = set()
        while waiting:
            node = waiting.pop()
            if node in visited:
                continue
            visited.add(node)
            ends = {}
            for position, edge in enumerate(node.next_functions):
                if edge in self._seen:
                    ends[position] = self._seen[edge]
                elif edge[0] is not None:
                    waiting.append(edge[0])
            if ends:
                node.register_hook(_adds_entering(record, ends))
        for tensor in outputs:
            node, position = _edge(tensor)
            node.register_prehook(_adds_leaving(record, position, self.watch(tensor)))


def audit_defects(
    model: nn.Module,
    x: Tensor,
    composite: Composite,
    *,
    target: Target = "predicted",
    labels: Tensor | None = None,
    task: str = "auto",
    output: Output = None,
) -> Defects:
    """Account for the relevance of every operation.

    Parameters
    ----------
    model
        In evaluation mode; comes back without hooks.
    x
        A few images: all intermediate tensors are kept.
    composite
        The rules.
    target, labels, task, output
        What is explained, see `shortcutscope.models.heads.targets`.

    Raises
    ------
    ModelError
        The score has no gradient with respect to the input.
    """
    leaf = x.detach().clone().requires_grad_()
    with parameters_without_gradient(model), torch.enable_grad(), ModuleScope(model) as scope:
        run = _Audited(composite, scope)
        run.watch(leaf)
        with run:
            result = model(leaf.view_as(leaf))  # a view: the model may work on its input in place
        logits = find_logits(result, output)
        score, _ = select_target(logits, target, labels, task)
        if not score.requires_grad:
            raise ModelError("the model's scores have no gradient with respect to its input")
        (gradient,) = torch.autograd.grad(score.sum(), leaf, allow_unused=True)
        for record in run.records:
            if record.call is not None and record.call.delivered is not None:
                record.absorbed.append(-record.call.delivered.sum())
        relevance = run.input_relevance(leaf, gradient).sum()
    score = score.detach()
    biases = [[] if record.call is None else record.call.bias_relevance for record in run.records]
    groups = [*(record.absorbed for record in run.records), *biases]
    entered, total, size, *sums = _fetched([[relevance], [score.sum()], [score.abs().sum()], *groups])
    rows = [
        row
        for record, defect, bias in zip(run.records, sums, sums[len(biases) :], strict=False)
        for row in _rows(record, defect, bias)
    ]
    table = pd.DataFrame(rows, columns=["module", "operation", "kind", "absorbed"])
    remainder = total - entered - float(table["absorbed"].sum(skipna=False))
    rounding = 8 * torch.finfo(score.dtype).eps * size
    table = table[~(table["absorbed"].abs() <= rounding)].sort_values("absorbed", key=abs, ascending=False)
    return Defects(total, entered, table.reset_index(drop=True), remainder)


def _fetched(groups: Sequence[Sequence[Tensor]]) -> list[float]:
    """The sum of each group, for all of which the host waits for the device once."""
    values = iter(torch.stack([value for group in groups for value in group]).tolist())
    return [sum(itertools.islice(values, len(group)), 0.0) for group in groups]


def _rows(record: _Record, defect: float, bias: float) -> Iterator[tuple[str, str, str, float]]:
    if record.call is not None:
        yield record.module, record.operation, "bias", bias
        yield record.module, record.operation, "rule", defect - bias
        return
    if record.rescaled or (record.operation in ADDING and record.has_constant):
        kind = "constant"
    elif record.operation in BIASED:
        kind = "bias" if record.has_constant else "rule"
    elif record.operation in TABLE or record.operation == "softmax":
        kind = "rule"
    else:
        kind = "no rule"
    yield record.module, record.operation, kind, defect


def _adds_entering(record: _Record, ends: dict[int, Tensor]) -> Callable[..., None]:
    def hook(grad_inputs: tuple[Tensor | None, ...], grad_outputs: object) -> None:
        for position, value in ends.items():
            gradient = grad_inputs[position]
            if gradient is not None:
                record.absorbed.append(-(value * gradient).sum())

    return hook


def _adds_leaving(record: _Record, position: int, value: Tensor) -> Callable[..., None]:
    def hook(grad_outputs: tuple[Tensor | None, ...]) -> None:
        gradient = grad_outputs[position]
        if gradient is not None:
            record.absorbed.append((value * gradient).sum())

    return hook


def _edge(tensor: Tensor) -> tuple[Node, int]:
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def _flows(tensor: Tensor) -> bool:
    return tensor.requires_grad and tensor.is_floating_point()


def _is_constant(value: object) -> bool:
    """A tensor or number that takes part in the operation without being of the graph."""
    if isinstance(value, Tensor):
        return value.is_floating_point() and not value.requires_grad
    return isinstance(value, float)


def _values(value: object) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        yield from itertools.chain.from_iterable(map(_values, value))
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(_values, value.values()))
    else:
        yield value


__all__ = ["Defects", "audit_defects"]
