"""Run chosen samples again: layers are looked at, and edited, for all concepts in one forward pass a batch.

Of every batch the network runs once as it is; from each layer that is to be edited only what lies behind it
runs again, with the samples of all concepts side by side (see `shortcutscope.scan.resume`). Processes that
share the work run some of the samples each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from shortcutscope.attribution.slope import full_precision
from shortcutscope.audit.context import Context
from shortcutscope.audit.interventions.handing_over import FileRange, laid_down, picked_up
from shortcutscope.errors import ModelError
from shortcutscope.locking import temporary_beside
from shortcutscope.models.layers import Layer
from shortcutscope.probes.extent.cells import cell_features
from shortcutscope.probes.extent.measuring import ExtentFeatures, input_cells, mapped_layers
from shortcutscope.probes.usage import Projection, Projections
from shortcutscope.processes import count, gathered, own_share, rank, wait
from shortcutscope.progress import progress_bar
from shortcutscope.scan.resume import Resumption
from shortcutscope.types import Bools, Floats, Ints

#: Values of a layer's output that are edited at a time, as far as a batch does with them.
AT_ONCE = 1 << 19


@dataclass(frozen=True, eq=False)
class ConceptEdit:
    """A concept that is taken out of a layer.

    Attributes
    ----------
    concept
        Its name.
    layer
        Where.
    halves
        Samples and what is taken out of them, see `shortcutscope.probes.usage.use_edits`.
    """

    concept: str
    layer: Layer
    halves: Sequence[tuple[Ints, Projection]]

    @property
    def rows(self) -> Ints:
        """The samples, one half after the other."""
        return np.concatenate([rows for rows, _ in self.halves]) if self.halves else np.empty(0, np.int64)

    def within(self, start: int, stop: int) -> ConceptEdit:
        """The same for the samples from one to before another."""
        halves = [(rows[_within(rows, start, stop)], one) for rows, one in self.halves]
        return replace(self, halves=[(rows, one) for rows, one in halves if len(rows)])


@dataclass(frozen=True, eq=False)
class Look:
    """A concept whose extent is to be measured.

    Attributes
    ----------
    concept
        Its name.
    rows
        (n,) its samples, in rising order.
    vectors
        Early layer's name to the vector (n, C) along which each sample's response is read.
    """

    concept: str
    rows: Ints
    vectors: Mapping[str, Floats]

    def within(self, start: int, stop: int) -> Look:
        """The same for the samples from one to before another."""
        some = _within(self.rows, start, stop)
        return Look(self.concept, self.rows[some], {name: v[some] for name, v in self.vectors.items()})


@dataclass(frozen=True, eq=False)
class Rerun:
    """What came of it.

    Attributes
    ----------
    logits
        (concept, layer) to the scores (n, K) of its samples with the concept taken out, in the order of
        `ConceptEdit.rows`.
    looks
        What was looked at.
    seen
        A look's position, or -1 for all of them together, and a layer (empty for the input) to what was seen,
        of runs of the samples one after the other: as many as there were processes.
    """

    logits: dict[tuple[str, str], Tensor]
    looks: Sequence[Look] = ()
    seen: Mapping[tuple[int, str], Sequence[Floats]] = field(default_factory=dict)

    def features(self, concept: str) -> ExtentFeatures | None:
        """What a concept's extent is read from, in the order of `Look.rows`; None where nobody looked."""
        position = next((k for k, look in enumerate(self.looks) if look.concept == concept), None)
        if position is None:
            return None
        rows = np.searchsorted(_union(self.looks), self.looks[position].rows)
        shared = {
            name: np.moveaxis(_taken(parts, rows), -1, 1) for (k, name), parts in self.seen.items() if k == -1
        }
        inputs = shared.pop("", None)
        along = {name: np.concatenate(parts) for (k, name), parts in self.seen.items() if k == position}
        return ExtentFeatures(inputs, shared, along)


def rerun(
    context: Context, edits: Sequence[ConceptEdit], looks: Sequence[Look] = (), *, what: str = "running again"
) -> Rerun:
    """Run the samples of some edits and looks again.

    Parameters
    ----------
    edits, looks
        In any number; of one layer all edits are of one kind.
    what
        For the progress bar.

    Raises
    ------
    ModelError
        A layer cannot be edited: the scores are NaN then.
    """
    rows = np.unique(np.concatenate([*(edit.rows for edit in edits), *(look.rows for look in looks), []]))
    rows = rows.astype(np.int64)
    size = context.settings.batch_size
    if count() == 1:
        return _rerun(context, edits, looks, rows, size, what)
    own = rows[own_share(len(rows))]
    # As many batches as are needed, and none that is nearly empty.
    size = max(1, -(-len(own) // max(1, -(-len(own) // size))))

    handed = temporary_beside(context.run.path / f"seen-{rank():03d}")
    mine: dict[tuple[int, str], Sequence[Floats]] = {}

    def run_own() -> tuple[int, int, str, dict[tuple[int, str], FileRange], Rerun]:
        if not len(own):
            return 0, 0, "", {}, Rerun({})
        start, stop = int(own[0]), int(own[-1]) + 1
        some = [edit.within(start, stop) for edit in edits]
        done = _rerun(context, some, [x.within(start, stop) for x in looks], own, size, what)
        # There is much of it, which costs less on the disk than on the wire.
        places = laid_down(handed, {key: part for key, (part,) in done.seen.items()}) if done.seen else {}
        mine.update(done.seen)
        return start, stop, handed.name, places, replace(done, seen={})

    parts = []
    try:
        for start, stop, name, places, part in gathered(run_own, what):
            theirs = {key: [one] for key, one in picked_up(context.run.path / name, places).items()}
            parts.append((start, stop, replace(part, seen=mine if name == handed.name else theirs)))
        wait(f"{what}: received")
    finally:
        handed.unlink(missing_ok=True)
    return _joined(edits, looks, parts)


def _joined(
    edits: Sequence[ConceptEdit], looks: Sequence[Look], parts: Sequence[tuple[int, int, Rerun]]
) -> Rerun:
    """What several processes found, with the samples that each had, in rising order, as if one had."""
    logits = {}
    for edit in edits:
        key, rows = (edit.concept, edit.layer.name), edit.rows
        if len(rows):
            places = [np.flatnonzero(_within(rows, start, stop)) for start, stop, _ in parts]
            scores = torch.cat([part.logits[key] for _, _, part in parts if key in part.logits])
            logits[key] = scores[torch.from_numpy(np.argsort(np.concatenate(places)))]
    seen = [part.seen for _, _, part in parts]
    keys = dict.fromkeys(key for one in seen for key in one)
    return Rerun(logits, looks, {key: [one for x in seen if key in x for one in x[key]] for key in keys})


def _taken(parts: Sequence[Floats], rows: Ints) -> Floats:
    """Rows, in rising order, of arrays one after the other."""
    ends = np.cumsum([len(part) for part in parts])
    own = np.split(rows, np.searchsorted(rows, ends[:-1]))
    starts = ends - [len(part) for part in parts]
    taken = [part[some - start] for part, some, start in zip(parts, own, starts, strict=True)]
    return taken[0] if len(taken) == 1 else np.concatenate(taken)


def _union(looks: Sequence[Look]) -> Ints:
    """The samples of all looks, in rising order."""
    return np.unique(np.concatenate([*(look.rows for look in looks), []])).astype(np.int64)


def _within(rows: Ints, start: int, stop: int) -> Bools:
    selection: Bools = (rows >= start) & (rows < stop)
    return selection


def _rerun(
    context: Context, edits: Sequence[ConceptEdit], looks: Sequence[Look], rows: Ints, size: int, what: str
) -> Rerun:
    """What this process finds on the samples `rows`, in batches of a size."""
    queues = _Queue.of_layers(context, [edit for edit in edits if len(edit.rows)], rows)
    layers = [layer for layer in context.scan.layers if layer.name in queues]
    seen = _Seen(context, looks, rows)
    progress = progress_bar(
        total=len(rows), desc=what, unit="image", progress=context.settings.progress, leave=False
    )
    network = Resumption(context.model, layers, output=context.settings.output)
    with progress, network:
        for start, x in zip(range(0, len(rows), size), context.inputs(rows, size), strict=False):
            seen.begin(start, x)
            network.record(x, seen.see, seen.layers)
            scores, taken = [], []
            for layer in reversed(layers):
                for which, places in queues[layer.name].batch(start, start + len(x), size):
                    edit = queues[layer.name].projections.edit(which)
                    scores.append(network.go_on(layer, edit, places - start))
                    taken.append(layer)
            on_host = _on_host([*scores, *seen.batch.values()])
            _share_out(queues, taken, on_host[: len(scores)])
            seen.end(on_host[len(scores) :])
            progress.update(len(x))
    logits = {key: part for queue in queues.values() for key, part in queue.results().items()}
    return Rerun(logits, looks, seen.collected())


class _Queue:
    """All edits of one layer, sample by sample.

    Attributes
    ----------
    projections
        Of all edits.
    """

    def __init__(self, layer: Layer, edits: Sequence[ConceptEdit], rows: Ints, device: torch.device) -> None:
        parts = [(samples, one) for edit in edits for samples, one in edit.halves]
        self.layer, self._edits = layer, edits
        self.projections = Projections([one for _, one in parts], device)
        places = np.concatenate([np.searchsorted(rows, samples) for samples, _ in parts])
        which = np.repeat(np.arange(len(parts)), [len(samples) for samples, _ in parts])
        self._order = np.argsort(places, kind="stable")
        self._sorted = places[self._order]
        # Sent to the device once.
        self._places = torch.from_numpy(self._sorted).to(device)
        self._which = torch.from_numpy(which[self._order]).to(device)
        self.scores: list[Tensor] = []

    @classmethod
    def of_layers(cls, context: Context, edits: Sequence[ConceptEdit], rows: Ints) -> dict[str, _Queue]:
        """By layer's name."""
        by_layer: dict[str, list[ConceptEdit]] = {}
        for edit in edits:
            by_layer.setdefault(edit.layer.name, []).append(edit)
        return {name: cls(some[0].layer, some, rows, context.device) for name, some in by_layer.items()}

    def batch(self, start: int, stop: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Which projections and places of a batch, `size` at a time, of a small layer more."""
        size = max(size, AT_ONCE // max(1, int(np.prod(self.layer.shape))))
        first, last = np.searchsorted(self._sorted, (start, stop))
        for begin in range(int(first), int(last), size):
            end = min(begin + size, int(last))
            yield self._which[begin:end], self._places[begin:end]

    def results(self) -> dict[tuple[str, str], Tensor]:
        """(concept, layer) to the scores, in the order of the edit's rows."""
        result = torch.cat(self.scores)
        scores = torch.empty_like(result)
        scores[torch.from_numpy(self._order)] = result
        lengths = [len(edit.rows) for edit in self._edits]
        parts = torch.split(scores, lengths)
        return {(edit.concept, self.layer.name): part for edit, part in zip(self._edits, parts, strict=True)}


def _on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """All that a batch gave, which comes from the device in one piece: waiting for it once is enough."""
    if not tensors:
        return []
    flat = torch.cat([one.reshape(-1) for one in tensors]).cpu()
    parts = torch.split(flat, [one.numel() for one in tensors])
    return [part.reshape(one.shape).to(one.dtype) for part, one in zip(parts, tensors, strict=True)]


def _share_out(queues: Mapping[str, _Queue], taken: Sequence[Layer], scores: Sequence[Tensor]) -> None:
    """Give the layers the scores of a batch."""
    for layer, part in zip(taken, scores, strict=True):
        if not bool(torch.isfinite(part).all()):
            raise ModelError(
                f"the activations of layer {layer.name!r} cannot be edited: they hardly vary over the "
                "samples, so that what was to be taken out of them is NaN; leave the layer out"
            )
        queues[layer.name].scores.append(part)


class _Seen:
    """What the looks collect, batch by batch."""

    def __init__(self, context: Context, looks: Sequence[Look], rows: Ints) -> None:
        device = context.device
        self._mapped = {layer.name for layer in mapped_layers(context.scan.layers)} if looks else set()
        followed = {name for look in looks for name in look.vectors}
        self.layers = [x for x in context.scan.layers if x.name in self._mapped | followed]
        self._union = np.searchsorted(rows, _union(looks))
        self._places = [np.searchsorted(rows, look.rows) for look in looks]
        self._vectors = [
            {name: torch.as_tensor(v, dtype=torch.float32).to(device) for name, v in look.vectors.items()}
            for look in looks
        ]
        self._parts: dict[tuple[int, str], list[Floats]] = {}
        self.batch: dict[tuple[int, str], Tensor] = {}
        self._all = torch.empty(0, dtype=torch.int64)
        self._own: list[Tensor] = []
        self._spans: list[slice] = []

    def begin(self, start: int, x: Tensor) -> None:
        """A batch, which begins at this place."""
        self.batch = {}
        places = (self._union, *self._places)
        of_batch = [np.searchsorted(one, (start, start + len(x))) for one in places]
        local = [one[first:last] - start for one, (first, last) in zip(places, of_batch, strict=True)]
        sent = torch.from_numpy(np.concatenate(local)).to(x.device)  # at once
        self._all, *self._own = torch.split(sent, [len(one) for one in local])
        self._spans = [slice(int(first), int(last)) for first, last in of_batch[1:]]
        on_input = input_cells(x[self._all]) if len(self._all) else None
        if on_input is not None:
            self.batch[-1, ""] = _features_last(on_input)

    def see(self, layer: Layer, values: Tensor) -> None:
        """A layer's output in the batch."""
        with torch.autocast(values.device.type, enabled=False):
            self._look(layer, full_precision(layer.channels_first(values)))

    def _look(self, layer: Layer, values: Tensor) -> None:
        if layer.name in self._mapped and len(self._all):
            self.batch[-1, layer.name] = _features_last(cell_features(values[self._all]))
        for k, (vectors, own, span) in enumerate(zip(self._vectors, self._own, self._spans, strict=True)):
            if layer.name in vectors and len(own):
                along = values[own].flatten(2)
                self.batch[k, layer.name] = torch.bmm(vectors[layer.name][span, None], along)[:, 0]

    def end(self, on_host: Sequence[Tensor]) -> None:
        """Keep what the batch gave, which is on the host by now."""
        for key, values in zip(self.batch, on_host, strict=True):
            self._parts.setdefault(key, []).append(values.numpy())
        self.batch = {}

    def collected(self) -> dict[tuple[int, str], Sequence[Floats]]:
        """As `Rerun.seen`."""
        return {key: [np.concatenate(parts)] for key, parts in self._parts.items()}


def _features_last(cells: Tensor) -> Tensor:
    """(N, *cells, F) of (N, F, *cells): the statistics of a cell run over its features."""
    return cells.movedim(1, -1).contiguous()
