"""Run a network on from one of its layers, without what comes before it.

A forward pass is recorded once; then the network goes on from any of its layers, with that layer's output
edited, as often as there is something to edit. What came before is not run again: modules that had returned
when the layer did give what they gave in the recorded pass. That holds in any module tree in which modules
give the same for the same input. Whether it does, and which of those outputs are needed later on (in most
networks the layer's own alone), is tried on a few samples; where it does not, the whole network is run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from shortcutscope.attribution.hooks import visiting
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.layers import Layer
from shortcutscope.scan.pooling import edited_output

#: Takes a layer's output (N, C, P) and gives as much.
Edit = Callable[[Tensor], Tensor]
#: Sees a layer and its output.
See = Callable[[Layer, Tensor], None]
#: A call in the tree of calls of one forward pass: the how manyeth call of its caller, from the model down.
Path = tuple[int, ...]

#: Samples on which it is tried, twice, so that what has as many rows as there are samples shows.
TRIED = (3, 2)
#: Difference of the scores, relative to the largest one, that is more than the rounding of other batch sizes.
TOLERANCE = 1e-3


@dataclass
class _Given:
    """What one call returned, as leaves of its structure."""

    leaves: list[Any]
    structure: Any
    versions: list[int]

    @classmethod
    def of(cls, result: object, *, copied: bool = False) -> _Given:
        leaves, structure = tree_flatten(result)
        if copied:
            leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return cls(leaves, structure, [leaf._version for leaf in leaves if isinstance(leaf, Tensor)])

    @property
    def overwritten(self) -> bool:
        """Whether somebody wrote into it since."""
        tensors = [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]
        return [leaf._version for leaf in tensors] != self.versions

    def replaced(self, change: Callable[[Tensor, bool], Tensor], by_sample: Sequence[bool]) -> Any:
        """The result with other tensors; `change` is told whether a tensor has a row a sample."""
        leaves = [
            change(leaf, rows) if isinstance(leaf, Tensor) else leaf
            for leaf, rows in zip(self.leaves, by_sample, strict=True)
        ]
        return tree_unflatten(leaves, self.structure)


@dataclass(frozen=True)
class _Route:
    """How to go on from a layer.

    Attributes
    ----------
    own
        The layer's call.
    before
        The other outermost calls that had returned by then.
    needed
        Those of them whose output something reads later.
    """

    own: Path
    before: tuple[Path, ...]
    needed: frozenset[Path]

    @property
    def kept(self) -> frozenset[Path]:
        return self.needed | {self.own}


@dataclass
class _Calls:
    """What happens to the calls of one forward pass."""

    keep: frozenset[Path] | None = None  # None: all
    copied: frozenset[Path] = frozenset()
    given: Mapping[Path, Callable[[], Any]] = field(default_factory=dict)
    stack: list[Path] = field(default_factory=lambda: [()])
    counts: list[int] = field(default_factory=lambda: [0])
    ended: list[tuple[Path, nn.Module]] = field(default_factory=list)
    kept: dict[Path, _Given] = field(default_factory=dict)

    def call(self, module: nn.Module, forward: Callable[[], object]) -> object:
        path = (*self.stack[-1], self.counts[-1])
        self.counts[-1] += 1
        if path in self.given:
            return self.given[path]()
        self.stack.append(path)
        self.counts.append(0)
        try:
            result = forward()
        finally:
            self.stack.pop()
            self.counts.pop()
        self.ended.append((path, module))
        if self.keep is None or path in self.keep:
            self.kept[path] = _Given.of(result, copied=path in self.copied)
        return result


class Resumption(AbstractContextManager["Resumption"]):
    """A network that can be run on from its layers.

    To be used in a `with` statement, inside of `frozen`: meanwhile the modules' `forward` is wrapped.

    Parameters
    ----------
    model
        In evaluation mode, on the device of the images.
    layers
        Those that it is to go on from, as `find_layers` returns them.
    output
        Which part of the model's output holds the scores.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from shortcutscope.models.frozen import frozen
    >>> from shortcutscope.models.layers import find_layers
    >>> model, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(5, 4)
    >>> layers = find_layers(model, x, "all")
    >>> with frozen(model) as borrowed, Resumption(borrowed, layers) as network:
    ...     logits = network.record(x)
    ...     zeroed = network.go_on(layers[1], torch.zeros_like)
    >>> bool(torch.allclose(zeroed, model[2].bias.expand(5, 2)))
    True
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        *,
        output: Output = None,
    ) -> None:
        self._model, self._layers = model, tuple(layers)
        self._output = output
        self._routes: dict[str, _Route] | None = None
        self._by_sample: dict[Path, list[bool]] = {}
        self._copied: frozenset[Path] = frozenset()
        self._calls = _Calls(keep=frozenset())
        self._x = torch.empty(0)
        self._recorded: dict[Path, _Given] = {}
        self._expected = torch.empty(0)

    def __enter__(self) -> Resumption:
        self._wrapped = ExitStack()
        for module in self._model.modules():
            if module is not self._model:
                self._wrapped.enter_context(_wrapped(module, self._call))
        return self

    def __exit__(self, *error: object) -> None:
        self._recorded, self._x = {}, torch.empty(0)
        self._wrapped.close()

    def resumes(self, layer: Layer) -> bool:
        """Whether the network goes on from a layer without running what comes before; after `record`."""
        return layer.name in (self._routes or {})

    def record(self, x: Tensor, see: See | None = None, seen: Sequence[Layer] = ()) -> Tensor:
        """One forward pass of a batch, from which `go_on` goes on.

        Parameters
        ----------
        x
            (N, ...).
        see
            Is given the output of each of the layers `seen`, in the layer's own layout.

        Returns
        -------
        logits
            (N, K), at least float32; not looked at whether they are finite.
        """
        if self._routes is None:
            self._find_routes(x)
        assert self._routes is not None
        keep = frozenset().union(*(route.kept for route in self._routes.values()))
        self._x, self._recorded = x, {}
        with (
            self._pass(_Calls(keep, self._copied)) as calls,
            visiting(self._model, list(seen), see or _ignore),
        ):
            logits = self._scores(x)
        self._recorded = calls.kept
        return logits

    def go_on(self, layer: Layer, edit: Edit, rows: Tensor | None = None) -> Tensor:
        """Scores of the recorded batch with a layer's output edited.

        Parameters
        ----------
        layer
            One of those given.
        edit
            Takes the output with its positions flattened, (n, C, P), and returns as much. All positions, also
            class tokens; a vector has P = 1.
        rows
            (n,) samples of the batch; None for all.

        Returns
        -------
        logits
            (n, K), at least float32; not looked at whether they are finite.
        """
        route = (self._routes or {}).get(layer.name)
        calls = (
            _Calls(frozenset()) if route is None else self._resumed(route, self._recorded, rows, route.needed)
        )
        return self._edited(layer, edit, self._x if rows is None else self._x[rows], calls)

    def _edited(self, layer: Layer, edit: Edit, x: Tensor, calls: _Calls) -> Tensor:
        def visit(seen: Layer, values: Tensor) -> Tensor:
            return edited_output(seen, values, edit)

        with self._pass(calls), visiting(self._model, [layer], visit):
            return self._scores(x)

    def _scores(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            result = self._model(x.detach().clone())  # a copy, since a model may normalise its input in place
        logits = find_logits(result, self._output)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @contextmanager
    def _pass(self, calls: _Calls) -> Iterator[_Calls]:
        before, self._calls = self._calls, calls
        try:
            yield calls
        finally:
            self._calls = before

    def _call(self, module: nn.Module, forward: Callable[[], object]) -> object:
        return self._calls.call(module, forward)

    def _resumed(
        self, route: _Route, recorded: Mapping[Path, _Given], rows: Tensor | None, real: frozenset[Path]
    ) -> _Calls:
        """Calls that had returned give what they gave, and those that nobody reads give nothing."""

        def returned(path: Path) -> Callable[[], Any]:
            given, by_sample = recorded[path], self._by_sample[path]
            fresh = path in self._copied

            def select(values: Tensor, per_sample: bool) -> Tensor:
                if per_sample and rows is not None:
                    return values[rows]  # keeps the memory format, which index_select does not
                return values.clone() if fresh else values

            return lambda: given.replaced(select, by_sample)

        unread = {path: _unread for path in route.before if path not in real}
        return _Calls(frozenset(), given={**unread, **{path: returned(path) for path in {route.own, *real}}})

    # Finding out from which layers it can go on

    def _find_routes(self, x: Tensor) -> None:
        """Try on a few samples from which layers the network goes on, and what that takes."""
        self._routes = {}
        first, second = (x[:n] for n in TRIED)
        if len(x) < max(TRIED):
            return
        traced = self._traced(first)
        routes = {
            layer.name: _route(traced.ended, self._model.get_submodule(layer.name)) for layer in self._layers
        }
        self._copied = frozenset(path for path, given in traced.kept.items() if given.overwritten)
        again = self._traced(second)
        for path, given in again.kept.items():
            rows = _rows_by_sample(traced.kept.get(path), given)
            if rows is not None:
                self._by_sample[path] = rows
        order = torch.tensor([1, 0], device=x.device)
        for layer in self._layers:
            route = routes[layer.name]
            if route is None or not {route.own, *route.before} <= set(self._by_sample):
                continue
            found = self._tried(layer, route, second, again, order)
            if found is not None:
                self._routes[layer.name] = found

    def _traced(self, x: Tensor) -> _Calls:
        with self._pass(_Calls(None, self._copied)) as calls:
            self._expected = self._scores(x)
        return calls

    def _tried(self, layer: Layer, route: _Route, x: Tensor, recorded: _Calls, rows: Tensor) -> _Route | None:
        """The route with what it needs, None where the scores are not those of the whole network."""
        expected = self._expected[rows]
        limit = TOLERANCE * float(expected.abs().max())
        for needed in (frozenset[Path](), frozenset(route.before)):
            calls = self._resumed(route, recorded.kept, rows, needed)
            try:
                scores = self._edited(layer, lambda values: values, x[rows], calls)
            except Exception:  # whatever a network's own code raises where something is not what it was
                continue
            if scores.shape == expected.shape and bool(((scores - expected).abs() <= limit).all()):
                return _Route(route.own, route.before, needed)
        return None


def _unread() -> None:
    """What a call returns that nobody reads: whoever does all the same fails."""


def _ignore(layer: Layer, values: Tensor) -> None:
    """See nothing."""


@contextmanager
def _wrapped(module: nn.Module, call: Callable[[nn.Module, Callable[[], object]], object]) -> Iterator[None]:
    """A module whose `forward` goes through `call`."""
    own = module.__dict__.get("forward")
    forward = module.forward

    @functools.wraps(forward)
    def through(*inputs: object, **named: object) -> object:
        return call(module, lambda: forward(*inputs, **named))

    module.forward = through
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _route(ended: Sequence[tuple[Path, nn.Module]], module: nn.Module) -> _Route | None:
    """The calls that had returned when a module did, outermost ones; None unless it ran once."""
    places = [k for k, (_, called) in enumerate(ended) if called is module]
    if len(places) != 1:
        return None
    returned = {path for path, _ in ended[: places[0] + 1]}
    outermost = [path for path in returned if not any(path[:k] in returned for k in range(len(path)))]
    own = ended[places[0]][0]
    return _Route(own, tuple(sorted(path for path in outermost if path != own)), frozenset())


def _rows_by_sample(three: _Given | None, two: _Given) -> list[bool] | None:
    """Which leaves have a row a sample; None where some have them otherwise than in front."""
    if three is None or len(three.leaves) != len(two.leaves):
        return None
    by_sample = []
    for a, b in zip(three.leaves, two.leaves, strict=True):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.shape == b.shape:
            by_sample.append(False)
        elif (a.shape[0], b.shape[0]) == TRIED and a.shape[1:] == b.shape[1:]:
            by_sample.append(True)
        else:
            return None
    return by_sample
