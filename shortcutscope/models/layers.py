"""The layers of any module tree, found by running one batch: what they give and how to read it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models import outputs
from shortcutscope.models.blocks import block_calls, thinned
from shortcutscope.models.heads.head import Output
from shortcutscope.models.layouts import (
    Layout,
    LayoutName,
    channel_axis,
    channels_first,
    detect_layouts,
)
from shortcutscope.models.token_positions import placed_tokens
from shortcutscope.models.tracing import Call, Trace, trace

LayerChoice = str | Sequence[str] | Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Layer:
    """One module of a model whose output is recorded.

    Attributes
    ----------
    name
        Dotted name, as in ``model.get_submodule(name)``.
    kind
        Class name of the module.
    layout
        What the axes of its output are.
    shape
        Output shape of one sample.
    depth
        Share of the model's elementary modules that have run when it returns, in (0, 1].
    prefix_tokens
        Number of tokens that belong to no position (class, distillation, register tokens).
    grid
        The positions: (H, W), (D, H, W), (L,); of tokens the patches; empty for a vector.
    output
        Keys that lead to the tensor in the module's output; empty when it returns the tensor.
    overwritten
        Whether the model writes into this tensor afterwards (``x += shortcut``, ``F.relu(x,
        inplace=True)``): who keeps it past the hook must copy it.
    extra_tokens
        Where the tokens without a position are, if not in front; the first of them is taken for the class
        token.
    """

    name: str
    kind: str
    layout: LayoutName
    shape: tuple[int, ...]
    depth: float
    prefix_tokens: int = 0
    grid: tuple[int, ...] = ()
    output: tuple[str | int, ...] = ()
    overwritten: bool = False
    extra_tokens: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """Number of channels, or the width of tokens and vectors."""
        return _channels(self.shape, self.layout)

    @property
    def spatial(self) -> bool:
        """Whether the layer tells positions apart."""
        return int(np.prod(self.grid)) > 1

    def channels_first(self, t: Tensor) -> Tensor:
        """The layer's output as (N, C, *grid); of tokens those with a position, a vector as (N, C)."""
        return channels_first(t, Layout(self.layout, self.prefix_tokens, self.grid, self.extra_tokens))

    @property
    def tokens_without_position(self) -> list[int]:
        """Their places: class, distillation, register tokens."""
        return list(self.extra_tokens) or list(range(self.prefix_tokens))

    def pick(self, module_output: object) -> Tensor:
        """The layer's tensor in what its module returned."""
        return cast(Tensor, outputs.pick(module_output, self.output))

    def replace(self, module_output: object, tensor: Tensor) -> Any:
        """What the module returned, with `tensor` in place of the layer's; the original is untouched."""
        return outputs.replace(module_output, self.output, tensor)


@dataclass(frozen=True)
class LayerChoiceMade:
    """Layers, and how they were chosen where not all that were asked for are among them."""

    layers: tuple[Layer, ...]
    note: str | None = None


def find_layers(
    model: nn.Module,
    example: Tensor,
    layers: LayerChoice = "blocks",
    *,
    layouts: Mapping[str, str] | None = None,
    output: Output = None,
) -> tuple[Layer, ...]:
    """Find a model's layers by running one batch through it.

    Parameters
    ----------
    model
        Any module that scores a batch; it is given back as it was.
    example
        One batch, as the model takes it.
    layers
        ``"blocks"``: the blocks that the network is built of, and between them one layer for each
        convolution or linear layer, of more than twenty sixteen evenly spaced in depth (see
        `shortcutscope.models.blocks`). ``"all"``: every module that runs
        once and gives a floating-point tensor. Otherwise a name, names and patterns, or a function of
        (name, module). In a pattern ``*`` stands for any text without a dot and ``**`` for any text:
        ``"layer3.*"`` are the children of layer3, ``"**.relu"`` every module called relu.
    layouts
        Layout by name where the detected one is wrong, such as ``{"stem": "NHWC", "mixer": "tokens:1"}``, or
        ``"tokens@-1"`` for a class token at the end. Where tokens are in the image is found by lighting
        single patches; where they follow no grid, they are read as a row.
    output
        Which part of the model's output holds the scores, see `find_logits`.

    Returns
    -------
    layers
        In the order in which they run.

    Raises
    ------
    InputError
        A name, pattern or layout that matches nothing; a batch that does not fit the model.
    ModelError
        A named module runs more than once, never, or without effect on the scores; the model returns NaN,
        or is compiled, scripted or wrapped.

    Examples
    --------
    >>> [(layer.name, layer.grid) for layer in ss.find_layers(model, images)]
    [('blocks.0.2', (8, 8)), ('blocks.1.1', (8, 8))]
    """
    return choose_layers(model, example, layers, layouts=layouts, output=output).layers


def choose_layers(
    model: nn.Module,
    example: Tensor,
    layers: LayerChoice = "blocks",
    *,
    layouts: Mapping[str, str] | None = None,
    output: Output = None,
) -> LayerChoiceMade:
    """As `find_layers`, and say what was left out."""
    run = trace(model, example, output)
    overrides = layouts or {}
    _require_known(overrides, dict(model.named_modules(remove_duplicate=False)), "layouts")
    detected = detect_layouts(run, overrides)
    usable = [call for call in run.once() if call in detected and call.influences]
    calls = _choose(model, run, detected, usable, layers)
    if not calls:
        raise ModelError(
            f"no layer found for layers={layers!r}; name the modules, or use layers='all' "
            f"({', '.join(repr(call.name) for call in usable[:5]) or 'of which there is none'})"
        )
    note, n_blocks = None, len(calls)
    if layers == "blocks":
        calls = thinned(calls)
        if len(calls) < n_blocks:
            note = f"{len(calls)} of {n_blocks} blocks, evenly spaced in depth; name others with layers"
    layouts_of = placed_tokens(model, run, detected, calls, list(overrides))
    return LayerChoiceMade(tuple(_layer(call, layouts_of[call], run) for call in calls), note)


def _layer(call: Call, layout: Layout, run: Trace) -> Layer:
    return Layer(
        name=call.name,
        kind=call.kind,
        layout=layout.name,
        shape=call.shape,
        depth=call.leaves / run.root.leaves,
        prefix_tokens=layout.prefix_tokens,
        grid=layout.grid,
        output=call.path,
        overwritten=call.overwritten,
        extra_tokens=layout.extra_tokens,
    )


def _channels(shape: tuple[int, ...], layout: LayoutName) -> int:
    return shape[0 if channel_axis(layout) == 1 else -1]


def _choose(
    model: nn.Module, run: Trace, detected: Mapping[Call, Layout], usable: list[Call], layers: LayerChoice
) -> list[Call]:
    if isinstance(layers, str) and layers == "blocks":
        candidates = set(usable)
        channels = {call: _channels(call.shape, layout.name) for call, layout in detected.items()}
        return [call for call in block_calls(run, channels) if call in candidates]
    if isinstance(layers, str) and layers == "all":
        return usable
    if callable(layers):
        return [call for call in usable if layers(call.name, call.module)]
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"layers is {layers!r}; allowed are 'blocks', 'all', names, patterns such as 'layer3.*', or a "
            "function of (name, module)"
        )
    by_name = dict(model.named_modules(remove_duplicate=False))
    modules: set[nn.Module] = set()
    for name in names:
        if _is_pattern(name):
            modules |= _matching(name, usable, by_name)
        else:
            _require_known([name], by_name, "layers")
            modules.add(_usable_module(name, by_name[name], run, usable))
    return [call for call in usable if call.module in modules]


def _is_pattern(name: str) -> bool:
    return any(character in name for character in "*?")


def _matching(pattern: str, usable: list[Call], by_name: Mapping[str, nn.Module]) -> set[nn.Module]:
    wildcards = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    expression = re.compile("".join(wildcards.get(part) or re.escape(part) for part in parts))
    modules = {call.module for call in usable if expression.fullmatch(call.name)}
    if not modules:
        raise InputError(
            f"layers pattern {pattern!r} matches no module that runs once and gives a floating-point tensor; "
            f"'*' stops at a dot, '**' does not. Modules at the top: {', '.join(_top(by_name))}"
        )
    return modules


def _top(by_name: Mapping[str, nn.Module]) -> list[str]:
    return [name for name in by_name if name and "." not in name][:12]


def _require_known(names: Iterable[str], by_name: Mapping[str, nn.Module], option: str) -> None:
    for name in names:
        if name and name in by_name:
            continue
        close = difflib.get_close_matches(name, [n for n in by_name if n], n=4, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(map(repr, close))}?"
            if close
            else f"modules: {', '.join(_top(by_name))}"
        )
        raise InputError(f"{option} names {name!r}, which is no module of the model; {hint}")


def _usable_module(name: str, module: nn.Module, run: Trace, usable: list[Call]) -> nn.Module:
    if any(call.module is module for call in usable):
        return module
    calls = run.of(module)
    if not calls:
        raise ModelError(
            f"layer {name!r} never runs when the model scores a batch (a container whose parts are called "
            "one by one, or a part for training only); name its parts or the module around it"
        )
    if len(calls) > 1:
        raise ModelError(
            f"layer {name!r} runs {len(calls)} times in one forward pass, so its output is not one tensor; "
            + _around(calls, run, usable)
        )
    if calls[0].influences and calls[0].tensor is not None and 1 <= len(calls[0].shape) <= 4:
        raise ModelError(
            f"layer {name!r} gives {calls[0].shape} per sample, and nothing tells which axis holds the "
            f"channels (attention heads, for instance); say so with layouts={{{name!r}: ...}}"
        )
    if calls[0].tensor is None or not 1 <= len(calls[0].shape) <= 4:
        raise ModelError(
            f"layer {name!r} gives no floating-point tensor with the batch as first and 1 to 4 further "
            "dimensions; name the module around it or one of its parts"
        )
    raise ModelError(
        f"layer {name!r} has no differentiable effect on the class scores; where the model returns several "
        "outputs, say with output=... which holds the scores"
    )


def _around(calls: list[Call], run: Trace, usable: list[Call]) -> str:
    """What to name instead of a reused module: the module around each run, else the one before it."""
    enclosing: list[str] = []
    before: list[str] = []
    for call in calls:
        around = [c.name for c in usable if call in c.descendants()]
        enclosing += around[:1]  # the innermost finishes first
        earlier = [c.name for c in usable if run.calls.index(c) < run.calls.index(call)]
        before += earlier[-1:]
    names, what = (enclosing, "around") if len(enclosing) == len(calls) else (before, "before")
    text = ", ".join(dict.fromkeys(map(repr, names)))
    return (
        f"name the modules {what} its runs instead: {text}" if text else "give each use a module of its own"
    )
