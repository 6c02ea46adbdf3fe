"""The default choice of layers: the blocks that a network is built of, and what lies between them.

No table of architectures: the choice follows from the module tree and from one recorded forward pass.

1. A block is a module of the user's (not a container) whose class occurs at least twice, outermost first.
   Where such a module is a stage, holding a row of blocks of one class that lead to its output, its blocks
   count instead. A module that joins branches (its output has more channels than that of any of its
   parts) is a block, even if its class occurs once.
2. Modules outside every block are grouped: a group starts at each convolution or linear layer and runs
   until the next one or the next block. Its layer is the last activation, pooling or norm in it.
3. The group that gives the model's output is left out, and so is what only leads the last block to it.
4. Of more than `MOST` layers `THINNED` are kept, evenly spaced in depth, the first and the last among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import nn

from shortcutscope.models.tracing import Call, Trace

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm)
_MAPS = (nn.modules.conv._ConvNd, nn.Linear)
_HEADS = (
    nn.modules.pooling._AdaptiveAvgPoolNd,  # pooling to a fixed size prepares the classifier
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Softmax,
    nn.Softmax2d,
    nn.LogSoftmax,
    nn.modules.dropout._DropoutNd,
)


#: As many default layers as are kept without thinning, and as many as are kept of more: neighbouring blocks
#: of a deep network hardly differ, and every layer costs time and disk.
MOST, THINNED = 20, 16


def thinned(calls: Sequence[Call]) -> list[Call]:
    """At most `MOST` of the calls, evenly spaced in depth."""
    if len(calls) <= MOST:
        return list(calls)
    depths = np.linspace(calls[0].leaves, calls[-1].leaves, THINNED)
    positions: list[int] = []
    for k, depth in enumerate(depths):
        low = positions[-1] + 1 if positions else 0
        high = len(calls) - (THINNED - k) + 1  # as many must be left as are still to be kept
        positions.append(min(range(low, high), key=lambda i: abs(calls[i].leaves - depth)))
    positions[-1] = len(calls) - 1
    return [calls[i] for i in positions]


def block_calls(trace: Trace, channels: Mapping[Call, int]) -> list[Call]:
    """The calls whose outputs are the default layers, in the order in which they finished.

    Parameters
    ----------
    trace
        One recorded forward pass.
    channels
        Channel count of every call whose layout is known.
    """
    usable = {call for call in trace.once() if call.tensor is not None and call.influences}
    layers: list[Call] = []
    group: list[Call] = []
    for call, is_block in _units(trace, channels):
        if is_block or _starts_group(call):
            layers += _layer_of(group, usable)
            group = []
        if is_block:
            layers += [call] if call in usable else []
        elif group or _starts_group(call):
            group.append(call)
    # What is left in `group` is the head: it gives the model's output.
    return [call for call in layers if not _gives_scores(call, trace)]


def _units(trace: Trace, channels: Mapping[Call, int]) -> Iterator[tuple[Call, bool]]:
    """The blocks (True), and the modules outside every block in which no other module ran (False)."""
    classes = Counter(type(module) for module in {c.module for c in trace.calls if _is_composite(c)})
    repeated = {kind for kind, count in classes.items() if count >= 2}
    stages = {type(call.module) for call in trace.calls if type(call.module) in repeated and _is_stage(call)}

    def walk(call: Call) -> Iterator[tuple[Call, bool]]:
        for inner in call.inner:
            if inner.tensor is not None and not inner.influences:
                # What has no part in the scores, such as a second head, does not separate groups either. But
                # a network may be run for its feature maps alone: its own output is then not used.
                if any(part.tensor is not None and part.influences for part in inner.descendants()):
                    yield from walk(inner)
                continue
            kind = type(inner.module)
            if _is_leaf(inner):
                yield inner, False
            elif _is_composite(inner) and (kind in repeated - stages or _joins_branches(inner, channels)):
                yield inner, True
            else:
                yield from walk(inner)

    yield from walk(trace.root)


def _is_leaf(call: Call) -> bool:
    """Whether a module is one piece: nothing ran inside, or only what belongs to it.

    That is a norm with its activation inside (timm), a convolution with a parametrised weight (weight norm).
    """
    return not call.inner or isinstance(call.module, (*_NORMS, *_MAPS))


def _is_composite(call: Call) -> bool:
    """Whether a module is one of the user's that others ran in; a plain row of leaves is not."""
    module = call.module
    if _is_leaf(call) or type(module) in _CONTAINERS:
        return False
    return not (isinstance(module, nn.Sequential) and all(map(_is_leaf, call.inner)))


def _is_stage(call: Call) -> bool:
    """Whether a module holds a row of blocks of one class, the last of which gives its output.

    It may put the axes in another order: channels last within, first without.
    """
    for row in _rows(call):
        kinds = Counter(type(inner.module) for inner in row if _is_composite(inner))
        if kinds and max(kinds.values()) >= 2 and sorted(row[-1].shape) == sorted(call.shape):
            return True
    return False


def _rows(call: Call) -> Iterator[list[Call]]:
    """The calls of the members of each Sequential or ModuleList in a module, also of the module itself.

    The members of a Sequential may be called one by one, without it.
    """
    if isinstance(call.module, nn.Sequential):
        yield call.inner
    lists = [m for m in call.module.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
    for members in lists:
        inside = set(members)
        if row := [inner for inner in call.inner if inner.module in inside]:
            yield row
    for inner in call.inner:
        if isinstance(inner.module, nn.Sequential):
            yield from _rows(inner)


def _joins_branches(call: Call, channels: Mapping[Call, int]) -> bool:
    parts = [inner for inner in call.inner if inner.tensor is not None]
    if len(parts) < 2 or call not in channels:
        return False
    return all(
        part in channels and len(part.shape) == len(call.shape) and channels[part] < channels[call]
        for part in parts
    )


def _gives_scores(call: Call, trace: Trace) -> bool:
    """Whether a layer is the model's output, or one of several linear heads that are averaged to it."""
    scores = tuple(trace.logits.shape[1:])
    return trace.is_result(call) or (call.shape == scores and _is_leaf(call) and _starts_group(call))


def _starts_group(call: Call) -> bool:
    """Whether a module maps one set of channels to another: a weight matrix or a stack of filters.

    Quantised modules keep theirs packed, out of their parameters.
    """
    if isinstance(call.module, _NORMS):
        return False
    return hasattr(call.module, "_packed_params") or any(
        parameter.dim() >= 2 for parameter in call.module.parameters()
    )


def _layer_of(group: list[Call], usable: set[Call]) -> list[Call]:
    """The last activation, pooling or norm of a group; its convolution itself where it has none."""
    if not group:
        return []
    rank = len(group[0].shape)
    fit = [
        call
        for call in group
        if call in usable
        and not call.is_view
        and len(call.shape) == rank
        and not isinstance(call.module, _HEADS)
    ]
    return fit[-1:]
