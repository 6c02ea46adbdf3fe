"""Which axis of a layer's output holds the channels, and what the others are.

A shape alone does not tell: (N, 49, 64) may be 49 tokens of width 64 or a signal of 49 channels. The
evidence used, strongest first: what the module itself works on (a convolution's axis 1, a linear layer's
last axis), the module that gave or takes the very tensor, the grids and the channel counts met before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from torch import Tensor, nn

from shortcutscope.errors import InputError
from shortcutscope.models.tracing import Call, Trace

LayoutName = Literal["NCHW", "NHWC", "NCDHW", "NDHWC", "NCL", "tokens", "vector"]
LAYOUTS: tuple[str, ...] = get_args(LayoutName)

_FIRST: Mapping[int, LayoutName] = {1: "vector", 2: "NCL", 3: "NCHW", 4: "NCDHW"}
_LAST: Mapping[int, LayoutName] = {1: "vector", 2: "tokens", 3: "NHWC", 4: "NDHWC"}
_RANK = {"NCHW": 3, "NHWC": 3, "NCDHW": 4, "NDHWC": 4, "NCL": 2, "tokens": 2, "vector": 1}

_AXIS_ONE = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,  # batch and instance norm
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.PixelShuffle,
    nn.Upsample,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._LPPoolNd,
)
_LAST_AXIS = (nn.Linear, nn.Embedding, nn.MultiheadAttention, nn.RMSNorm)
_MAX_PREFIX = 16  # class, distillation and register tokens; DINOv2 with registers has five


@dataclass(frozen=True)
class Layout:
    """How to read a tensor.

    Attributes
    ----------
    name
        What the axes are.
    prefix_tokens
        Number of tokens that belong to no position.
    grid
        The positions.
    extra_tokens
        Where those tokens are, if not in front.
    """

    name: LayoutName
    prefix_tokens: int = 0
    grid: tuple[int, ...] = ()
    extra_tokens: tuple[int, ...] = ()


def detect_layouts(trace: Trace, overrides: Mapping[str, str] | None = None) -> dict[Call, Layout]:
    """The layout of every recorded call that gave a tensor of one to four dimensions a sample.

    Parameters
    ----------
    trace
        One recorded forward pass.
    overrides
        Layout by module name, where detection is not to be trusted: one of `LAYOUTS`, ``"tokens:p"`` with
        the number p of prefix tokens, or ``"tokens@i,j"`` with the places of tokens that belong to no
        position, of which negative ones count from the end.

    Raises
    ------
    InputError
        An override is no layout, or does not fit the number of dimensions.
    """
    return _Detector(trace, {} if overrides is None else overrides).run()


def channel_axis(name: str) -> int:
    """Axis of the channels in a batch of this layout."""
    return -1 if name in ("NHWC", "NDHWC", "tokens") else 1


class _Detector:
    """Goes through the calls in order, remembering the channel axis of each tensor met."""

    def __init__(self, trace: Trace, overrides: Mapping[str, str]) -> None:
        self.trace = trace
        self.overrides = overrides
        self.prefix = _declared_prefix(trace)
        self.found: dict[Call, LayoutName] = {}
        self.layouts: dict[Call, Layout] = {}

    def run(self) -> dict[Call, Layout]:
        for index, call in enumerate(self.trace.calls):
            if call.tensor is None or not 1 <= len(call.shape) <= 4:
                continue
            override = self.overrides.get(call.name)
            name, extra = _parse_override(call, override) if override else (self._name(index, call), None)
            if name is None:
                continue
            self.found[call] = name
            layout = self._layout(call, name, None if extra is None else len(extra))
            if extra is not None and extra != tuple(range(len(extra))):
                layout = replace(layout, extra_tokens=extra)
            self.layouts[call] = layout
        return self.layouts

    def _name(self, index: int, call: Call) -> LayoutName | None:
        rank = len(call.shape)
        if rank == 1:
            return "vector"
        axis = (
            _own_axis(call)
            or self._permuted(call)
            or self._same_output(call)
            or self._inner(call)
            or self._same_input(call)
            or self._taker(index, call)
            or self._by_grid(call)
        )
        if axis is None and rank > 2 and self._latest_certain() == "tokens":
            return None  # neither a map nor tokens: attention heads and the like
        axis = axis or self._by_channels(call) or self._by_positions(call) or (-1 if rank == 2 else 1)
        return (_FIRST if axis == 1 else _LAST)[rank]

    def _latest_certain(self) -> LayoutName | None:
        return next((self.found[c] for c in reversed(self.found) if _own_axis(c)), None)

    def _axis(self, call: Call) -> int:
        return channel_axis(self.found[call])

    def _same_output(self, call: Call) -> int | None:
        """The axis of an earlier call that gave this very tensor."""
        alike = [c for c in self.found if c.tensor is call.tensor]
        return self._axis(alike[-1]) if alike else None

    def _same_input(self, call: Call) -> int | None:
        """The axis of the input, where the output has its shape: the module works element by element."""
        inputs = {id(t) for t in call.inputs}
        alike = [c for c in self.found if id(c.tensor) in inputs and c.shape == call.shape]
        return self._axis(alike[-1]) if alike else None

    def _permuted(self, call: Call) -> int | None:
        """The axis after a module that permutes the dimensions of a tensor of known layout."""
        dims = getattr(call.module, "dims", None)
        inputs = {id(t) for t in call.inputs}
        before = next((c for c in reversed(self.found) if id(c.tensor) in inputs), None)
        if before is None or not isinstance(dims, list | tuple) or len(dims) != len(call.shape) + 1:
            return None
        source = 1 if self._axis(before) == 1 else len(dims) - 1
        target = list(dims).index(source)
        return 1 if target == 1 else -1 if target == len(dims) - 1 else None

    def _inner(self, call: Call) -> int | None:
        """The axis of the last part inside a composite module that has the output's shape."""
        alike = [c for c in call.descendants() if c in self.found and c.shape == call.shape]
        return self._axis(alike[-1]) if alike else None

    def _taker(self, index: int, call: Call) -> int | None:
        """The axis that the next module of certain layout works on, if it can be taking this tensor."""
        for later in self.trace.calls[index + 1 :]:
            axis = _input_axis(later)
            if axis is None:
                continue
            shape = tuple(later.inputs[0].shape[1:])
            # Tokens may have been added in between.
            alike = shape == call.shape or (len(shape) == len(call.shape) == 2 and axis == -1)
            return axis if alike and shape[-1] == call.shape[-1] else None
        return None

    def _by_grid(self, call: Call) -> int | None:
        """The axis beside the grid of the latest map of certain layout, where only one leaves that grid.

        Stronger than channel counts: 8 channels and 8 rows are often met in one network.
        """
        for earlier in reversed(self.layouts):
            layout = self.layouts[earlier]
            if layout.name in ("tokens", "vector") or len(layout.grid) != len(call.shape) - 1:
                continue
            fits = call.shape[1:] == layout.grid, call.shape[:-1] == layout.grid
            if _own_axis(earlier) and fits[0] != fits[1]:
                return 1 if fits[0] else -1
        return None

    def _by_channels(self, call: Call) -> int | None:
        """The axis whose size is the channel count of the latest tensor for which only one axis fits."""
        first, last = call.shape[0], call.shape[-1]
        for earlier in reversed(self.found):
            channels = earlier.shape[0 if self._axis(earlier) == 1 else -1]
            if (channels == first) != (channels == last):
                return 1 if channels == first else -1
        return None

    def _by_positions(self, call: Call) -> int | None:
        """The axis beside the one that holds all positions of the latest map, and perhaps prefix tokens."""
        if len(call.shape) != 2:
            return None
        positions = math.prod(self._latest_grid(call))
        return 1 if call.shape[1] == positions else -1 if call.shape[0] >= positions > 1 else None

    def _latest_grid(self, call: Call) -> tuple[int, ...]:
        """The grid of the latest map that is not made of tokens; the image's own where there is none."""
        for earlier in reversed(self.layouts):
            layout = self.layouts[earlier]
            if _own_axis(earlier) and layout.name not in ("tokens", "vector") and math.prod(layout.grid) > 1:
                return layout.grid
        return tuple(self.trace.image.shape[2:])

    def _layout(self, call: Call, name: LayoutName, prefix: int | None) -> Layout:
        if name == "vector":
            return Layout(name)
        if name != "tokens":
            return Layout(name, 0, call.shape[1:] if channel_axis(name) == 1 else call.shape[:-1])
        return Layout(name, *_token_grid(call.shape[0], self._latest_grid(call), self.prefix, prefix))


def _own_axis(call: Call) -> int | None:
    """The channel axis of a module's output, as far as its class and parameters tell."""
    module = call.module
    if isinstance(module, nn.LayerNorm):
        return _norm_axis(module, call.shape)
    if isinstance(module, _AXIS_ONE):
        return 1
    return -1 if isinstance(module, _LAST_AXIS) else None


def _input_axis(call: Call) -> int | None:
    """The channel axis of what a module takes."""
    shape = tuple(call.inputs[0].shape[1:]) if call.inputs else ()
    if isinstance(call.module, nn.LayerNorm):
        return _norm_axis(call.module, shape)
    if len(shape) < 2:
        return None
    return _own_axis(call)


def _norm_axis(module: nn.LayerNorm, shape: tuple[int, ...]) -> int | None:
    # Subclasses that normalise channels first (LayerNorm2d of torchvision and timm) permute inside.
    if len(module.normalized_shape) != 1 or len(shape) < 2:
        return None
    width = module.normalized_shape[0]
    if type(module) is not nn.LayerNorm and shape[0] == width:
        return 1
    return -1 if shape[-1] == width else None


def _declared_prefix(trace: Trace) -> int | None:
    """The number of prefix tokens that a model says it has (timm: ``num_prefix_tokens``)."""
    for call in (trace.root, *trace.calls):
        count: Any = getattr(call.module, "num_prefix_tokens", None)
        if isinstance(count, int):
            return count
    return None


def _token_grid(
    n_tokens: int, map_grid: tuple[int, ...], declared: int | None, n_prefix: int | None
) -> tuple[int, tuple[int, ...]]:
    """The number of prefix tokens and the grid of the others.

    Parameters
    ----------
    n_tokens
        All of them.
    map_grid
        Grid of the map that the tokens were cut from, or the image's size: its aspect ratio counts.
    declared, given
        Prefix tokens as the model and as the user says.
    """
    if n_prefix is not None:
        return n_prefix, _grid_of(n_tokens - n_prefix, map_grid) or (n_tokens - n_prefix,)
    surplus = n_tokens - math.prod(map_grid)
    if 0 <= surplus <= _MAX_PREFIX and math.prod(map_grid) > 1:
        return surplus, map_grid
    candidates = ([] if declared is None else [declared]) + list(range(_MAX_PREFIX + 1))
    for prefix in candidates:
        grid = _grid_of(n_tokens - prefix, map_grid)
        if grid:
            return prefix, grid
    return 0, (n_tokens,)


def _grid_of(count: int, like: tuple[int, ...]) -> tuple[int, ...]:
    """`count` positions as a grid with the aspect ratio of `like`; empty when there is none."""
    if count < 1 or not like:
        return ()
    if len(like) == 1:
        return (count,)
    scale = (count / math.prod(like)) ** (1 / len(like))
    grid = tuple(max(1, round(size * scale)) for size in like)
    return grid if math.prod(grid) == count else ()


def _parse_override(call: Call, text: str) -> tuple[LayoutName, tuple[int, ...] | None]:
    """The layout's name, and which tokens belong to no position, where that is said."""
    name, sign, count = re.fullmatch(r"([^:@]*)([:@]?)(.*)", text).groups()  # type: ignore[union-attr]
    pattern = {"": "", ":": r"\d+", "@": r"-?\d+(,-?\d+)*"}[sign]
    if name not in LAYOUTS or (sign and name != "tokens") or not re.fullmatch(pattern, count):
        raise InputError(
            f"layout {text!r} of layer {call.name!r} is unknown; allowed are {', '.join(LAYOUTS)}, "
            "'tokens:p' with p prefix tokens, and 'tokens@i,j' with the places of tokens without a position"
        )
    if _RANK[name] != len(call.shape):
        fitting = [n for n, rank in _RANK.items() if rank == len(call.shape)]
        raise InputError(
            f"layout {text!r} does not fit layer {call.name!r}, whose output is {call.shape} per sample; "
            f"allowed are {', '.join(fitting)}"
        )
    if not sign:
        return cast(LayoutName, name), None
    n = call.shape[0]
    extra = list(range(int(count))) if sign == ":" else [int(place) for place in count.split(",")]
    places = sorted({place % n for place in extra if -n <= place < n})
    if len(places) != len(extra) or len(places) == n:
        raise InputError(
            f"layer {call.name!r} has {n} tokens (0 to {n - 1}); {text!r} must name some of them, each once"
        )
    return cast(LayoutName, name), tuple(places)


def token_order(n_tokens: int, extra: tuple[int, ...]) -> list[int] | None:
    """The order in which tokens without a position come first; None where they do already."""
    return [*extra, *(t for t in range(n_tokens) if t not in extra)] if extra else None


def channels_first(tensor: Tensor, layout: Layout) -> Tensor:
    """A batch as (N, C, *grid), prefix tokens left out; a vector as (N, C).

    Parameters
    ----------
    tensor
        Output of the layer, shape (N, ...).
    """
    if layout.name == "tokens":
        order = token_order(tensor.shape[1], layout.extra_tokens)
        tensor = tensor if order is None else tensor[:, order]
        tensor = tensor[:, layout.prefix_tokens :].transpose(1, 2)
        return tensor.reshape(*tensor.shape[:2], *layout.grid)
    return tensor.movedim(-1, 1) if channel_axis(layout.name) == -1 else tensor
