"""A finished scan, opened for reading: statistics per layer, scores and roles per sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.models.heads.head import Head, Output, as_head
from shortcutscope.models.heads.targets import margin
from shortcutscope.models.layers import Layer
from shortcutscope.processes import is_main
from shortcutscope.scan.choice import AttributionChoice
from shortcutscope.scan.pooling import ACTIVATION_STATS, CLASS_TOKEN, LRP_STATS, RELEVANCE_STATS
from shortcutscope.scan.rows import StoredRows
from shortcutscope.scan.store import ShardReader
from shortcutscope.scan.view import VIEW, OutputReader
from shortcutscope.show import parts
from shortcutscope.show.isolation import sheet
from shortcutscope.types import JSON, Floats, Ints, Record


@dataclass(frozen=True, repr=False)
class Scan:
    """A scan on disk. Statistics are read when asked for, one layer at a time.

    Attributes
    ----------
    path
        The scan's folder.
    layers
        In execution order.
    samples
        One row per sample, in the order of the table: sample_id, label, group, split, prediction (class),
        target (the class explained), then the metadata.
    logits
        (N, K) float32.
    task
        ``"multiclass"``, ``"binary"`` or ``"multilabel"``.
    target
        What was explained: ``"predicted"``, ``"label"``, ``"every"``, or a class.
    attribution
        How: the attribution that was used, what was asked for, why they differ, and the check's figures.

    Examples
    --------
    >>> scan = ss.Scan.open("run/scan")
    >>> [layer.name for layer in scan.layers], scan.layer("blocks.1.1").channels
    (['blocks.0.2', 'blocks.1.1'], 4)
    >>> scan.activation("blocks.1.1").shape, scan.features("blocks.1.1").shape
    ((120, 4), (120, 12))
    >>> scan.relevance("blocks.1.1").shape, scan.gradient("blocks.1.1").shape, scan.margin().shape
    ((120, 4), (120, 4), (120,))
    >>> scan.has_relevance, scan.has_gradient, scan.head.task, scan.remarks["memory_format"]
    (True, True, 'auto', 'channels last')
    >>> rows = scan.feature_rows("blocks.1.1"), scan.activation_rows("blocks.1.1")
    >>> slopes = scan.gradient_rows("blocks.1.1")
    >>> scan.verify()
    >>> scan.require_one_label("a retrieval")
    >>> scan.labels, len(scan.rows_of(data))
    ((), 120)
    """

    path: Path
    layers: tuple[Layer, ...]
    samples: pd.DataFrame = field(repr=False)
    logits: Floats = field(repr=False)
    task: str
    target: str | int
    _reader: ShardReader | OutputReader = field(repr=False, compare=False)
    attribution: AttributionChoice = field(default_factory=AttributionChoice)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the folder of a finished scan.

        Raises
        ------
        InputError
            No scan, an unfinished one, or one with a shard that is missing or damaged.
        """
        folder = Path(path)
        return cls.of(OutputReader.open(folder) if (folder / VIEW).exists() else ShardReader(folder))

    @classmethod
    def of(cls, reader: ShardReader | OutputReader) -> Self:
        """What a reader of a finished scan gives."""
        inputs = reader.inputs
        layers = tuple(layer_from_json(entry) for entry in inputs["layers"])
        return cls(
            reader.folder,
            layers,
            reader.samples(),
            reader.read("logits"),
            inputs["task"],
            inputs["target"],
            reader,
            AttributionChoice.from_json(reader.remarks.get("attribution")),
        )

    def output(self, folder: Path, column: str, head: Head) -> Self:
        """The scan as one of one output of several, kept as a view in a folder (by the first process).

        Parameters
        ----------
        folder
            Of the view.
        column
            Of the samples, which holds its label: 1, 0, or NaN (left out).
        head
            Of the output.
        """
        assert isinstance(self._reader, ShardReader)
        reader = OutputReader(folder, self._reader, column, head)
        if is_main():
            reader.write()
        return self.of(reader)

    @property
    def rows_in_whole(self) -> Ints | None:
        """Of one output its samples among those of all, in rising order; None of a scan of its own."""
        return self._reader.rows if isinstance(self._reader, OutputReader) else None

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        names = ", ".join(layer.name for layer in self.layers)
        return (
            f"Scan({str(self.path)!r}: {len(self)} samples, {self.task}; {len(self.layers)} layers: {names})"
        )

    def _repr_html_(self) -> str:
        rows = [
            {
                "layer": layer.name,
                "kind": layer.kind,
                "layout": layer.layout,
                "shape": " x ".join(map(str, layer.shape)),
                "depth": layer.depth,
            }
            for layer in self.layers
        ]
        facts = {
            "samples": len(self),
            "layers": len(self.layers),
            "outputs": self.logits.shape[1],
            "task": self.task,
            "explained": self.target,
            "relevance": self.attribution,
        }
        return sheet(
            parts.heading("Scan"), parts.facts(facts), parts.table(pd.DataFrame(rows)), plain=repr(self)
        )

    @property
    def remarks(self) -> JSON:
        """How it came to be, which no row depends on: attribution, memory_format, layer_choice, labels."""
        return self._reader.remarks

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of several labels a sample, each a column of `samples`; empty where there is one label."""
        return tuple(self.remarks.get("labels") or ())

    def require_one_label(self, what: str) -> None:
        """Refuse a scan of several labels, in which no sample has a class, where a stage works on one.

        Raises
        ------
        InputError
            Names them, and how to choose.
        """
        if self.labels:
            raise InputError(
                f"{what} works on the classes of one label, and the scan in {self.path} is of "
                f"{len(self.labels)} ({', '.join(self.labels)}): give that of one output, "
                f"audit[{self.labels[0]!r}].scan of the run that it belongs to, or scan "
                f"data.for_label({self.labels[0]!r})"
            )

    def layer(self, name: str | Layer) -> Layer:
        """The layer of that name.

        Raises
        ------
        InputError
            It was not scanned; the message lists those that were.
        """
        name = name if isinstance(name, str) else name.name
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise InputError(f"layer {name!r} was not scanned; there are {names}")

    def activation(self, layer: str | Layer, stat: str = "mean") -> Floats:
        """Pooled activation (N, C): ``"mean"``, ``"max"`` or ``"std"`` over the positions, or ``"class"``.

        The last is the class token, of layers that have one.
        """
        _check_stat(stat, activation_stats(self.layer(layer)))
        return self._reader.read(activation_key(self.layer(layer).name, stat))

    def features(self, layer: str | Layer) -> Floats:
        """Mean, maximum and standard deviation side by side, (N, 3 C): what probes are fitted on.

        Of a layer with a class token, that token stands behind them, (N, 4 C).
        """
        stats = activation_stats(self.layer(layer))
        return np.concatenate([self.activation(layer, stat) for stat in stats], axis=1)

    def feature_rows(self, layer: str | Layer) -> StoredRows:
        """`features`, to be read a block of rows at a time."""
        return self._rows(layer, activation_stats(self.layer(layer)))

    def activation_rows(self, layer: str | Layer, stat: str = "mean") -> StoredRows:
        """`activation`, to be read a block of rows at a time."""
        _check_stat(stat, activation_stats(self.layer(layer)))
        return self._rows(layer, (stat,))

    def gradient_rows(self, layer: str | Layer) -> StoredRows:
        """`gradient`, to be read a block of rows at a time."""
        self._check_relevance("gradient")
        layer = self.layer(layer)
        targets = self.samples["target"].to_numpy() if self.target == "every" else None
        key, shape = relevance_key(layer.name, "gradient"), (len(self), layer.channels)
        return StoredRows(self._reader, (key,), shape, targets)

    def _rows(self, layer: str | Layer, stats: tuple[str, ...]) -> StoredRows:
        layer = self.layer(layer)
        keys = tuple(activation_key(layer.name, stat) for stat in stats)
        return StoredRows(self._reader, keys, (len(self), layer.channels * len(stats)))

    def relevance(self, layer: str | Layer, stat: str = "sum", target: int | None = None) -> Floats:
        """Relevance (N, C), pooled over the positions: gradient x activation, or LRP's (see `attribution`).

        Parameters
        ----------
        layer
            Name or layer.
        stat
            ``"sum"`` (signed), ``"max"``, or ``"gradient"`` for the sum of the gradient itself, which an LRP
            scan does not have.
        target
            The class explained. None for the one in ``samples.target``; another one only where every
            class was scanned.

        Raises
        ------
        InputError
            Not scanned: the layer, the class, the gradient, or relevance at all.
        """
        self._check_relevance(stat)
        key = relevance_key(self.layer(layer).name, stat)
        values: Floats = self._reader.read(key)
        if self.target != "every":
            if target not in (None, self.target):
                raise InputError(
                    f"{self.path} explains target={self.target!r}, not class {target}; "
                    "scan with target='every'"
                )
            return values
        if target is not None and not 0 <= target < values.shape[1]:
            raise InputError(f"class {target} is outside the model's {values.shape[1]} classes")
        targets = self.samples["target"].to_numpy() if target is None else target
        explained: Floats = values[np.arange(len(values)), targets]
        return explained

    def _check_relevance(self, stat: str) -> None:
        if not self.has_relevance:
            why = self.attribution.reason
            raise InputError(
                f"{self.path} holds activations alone" + (f": {why}" if why else "; scan with relevance=True")
            )
        if stat == "gradient" and not self.attribution.is_gradient:
            raise InputError(
                f"{self.path} was scanned with {self.attribution.used}, whose backward pass gives no "
                "gradient; scan with attribution='gradient_x_activation'"
            )
        _check_stat(stat, RELEVANCE_STATS if self.attribution.is_gradient else LRP_STATS)

    @property
    def has_relevance(self) -> bool:
        """Whether relevance was recorded."""
        return bool(self._reader.inputs["relevance"])

    @property
    def head(self) -> Head:
        """Which scores were read; what looks at the same model again reads the same."""
        return Head.from_json(self._reader.inputs.get("output"))

    def same_head(self, output: Output) -> Head:
        """The scan's head, where nothing else is asked for.

        Raises
        ------
        InputError
            Another one is.
        """
        if output is not None and not self.head.same_as(as_head(output)):
            raise InputError(
                f"{self.path} read {self.head}, but output= asks for {as_head(output)}; leave it out, or "
                "audit that output in a run of its own"
            )
        return self.head

    @property
    def has_gradient(self) -> bool:
        """Whether the plain gradient was recorded."""
        return self.has_relevance and self.attribution.is_gradient

    def gradient(self, layer: str | Layer, target: int | None = None) -> Floats:
        """Gradient of the explained score, summed over the positions, (N, C)."""
        return self.relevance(layer, "gradient", target)

    def rows_of(self, table: ImageTable) -> ImageTable:
        """The scanned samples of a table that may hold others, too, such as those of a training split.

        Raises
        ------
        InputError
            When it lacks some of them.
        """
        position = {str(name): k for k, name in enumerate(table.frame["sample_id"])}
        ids = self.samples["sample_id"].astype(str).tolist()
        missing = [name for name in ids if name not in position]
        if missing:
            raise InputError(
                f"the table lacks {len(missing)} of {len(ids)} scanned samples, among them {missing[:5]}; "
                "give the table that was scanned"
            )
        return table.take([position[name] for name in ids])

    def margin(self, positive: int = 1) -> Floats:
        """By how much the model prefers class `positive`, (N,); see `shortcutscope.models.heads.targets`."""
        values: Floats = margin(torch.from_numpy(self.logits), self.task, positive).numpy()
        return values

    def verify(self) -> None:
        """Compare the files with their checksums; InputError names the first damaged one."""
        self._reader.verify()


def activation_stats(layer: Layer) -> tuple[str, ...]:
    """Statistics that are recorded of a layer's activation."""
    has_class_token = layer.layout == "tokens" and layer.prefix_tokens > 0
    return (*ACTIVATION_STATS, CLASS_TOKEN) if has_class_token else ACTIVATION_STATS


def activation_key(layer: str, stat: str) -> str:
    """Name of an array of pooled activations in the store."""
    return f"activation/{layer}/{stat}"


def relevance_key(layer: str, stat: str) -> str:
    """Name of an array of pooled relevances in the store."""
    return f"relevance/{layer}/{stat}"


def layer_to_json(layer: Layer) -> Record:
    """A layer as the manifest holds it; what most layers do not have is left out."""
    return {k: v for k, v in asdict(layer).items() if k != "extra_tokens" or v}


def layer_from_json(entry: JSON) -> Layer:
    """A layer as the manifest holds it, its lists as tuples again."""
    values: Record = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return Layer(**values)


def _check_stat(stat: str, allowed: tuple[str, ...]) -> None:
    if stat not in allowed:
        raise InputError(f"stat is {stat!r}; allowed are {', '.join(allowed)}")
