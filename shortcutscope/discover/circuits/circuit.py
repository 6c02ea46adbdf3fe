"""Circuits: the channels that carry a concept towards the decision, and how they lead to each other.

A channel's score is the part of a concept's effect on the margin that passes through it, to first order: how
much more it contributes in carriers than in other samples of their class. Edges are conditional relevance
(Achtibat et al. 2023): of the relevance that passes through a channel, what comes from a channel of the layer
before, again in carriers more than in the others. Both describe; what a circuit claims is tested by ablating
channels of one layer, chosen on half of the patients and judged on the other half, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from torch import nn
from tqdm.auto import tqdm

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.circuits.ablation import (
    MIN_GAP,
    Ablation,
    judge,
    keeping,
)
from shortcutscope.discover.circuits.edges import DRAWN_CHANNELS, EDGE_COLUMNS, find_edges
from shortcutscope.discover.circuits.problem import CircuitProblem, Judging, Searching, circuit_problem, gap
from shortcutscope.discover.circuits.search import ChannelCandidate, Judgement, find_channels
from shortcutscope.errors import InputError
from shortcutscope.files import read_json, to_json, write_json
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output
from shortcutscope.options import READING, Running
from shortcutscope.probes.concept import Concept
from shortcutscope.progress import progress_bar
from shortcutscope.scan.reading import Scan
from shortcutscope.stats.metrics import within_class_auroc

NODE_COLUMNS = ("layer", "channel", "score", "auroc", "ablated")


@dataclass(frozen=True, eq=False)
class Circuit:
    """Channels that carry a concept, edges between them, and what ablation says of it.

    Attributes
    ----------
    concept
        Its name.
    layers
        Names, from the input to the decision.
    nodes
        One row a channel: ``layer, channel, score`` (logits by which the margin moves more in carriers than
        in other samples of their class, counted in the direction of the whole effect), ``auroc`` (of the
        channel's mean activation for the concept, within class; above .5 where it is higher in carriers)
        and ``ablated`` (whether it belongs to the set that is ablated).
    edges
        ``source_layer, source_channel, target_layer, target_channel, weight``: share of the relevance passing
        through the target that comes from the source, in carriers minus that in the others.
    ablation
        On samples on which no channel was chosen; None where it was not asked for.
    notes
        What a reader must know.

    Examples
    --------
    >>> circuit = audit["tag"].circuit(model, data, edges=False, running=quiet)
    >>> circuit.concept, list(circuit.to_frame().columns)[:2]
    ('tag', ['layer', 'channel'])
    >>> ablation = circuit.ablated
    >>> again = ss.Circuit.open(circuit.save("circuit.json"))
    """

    concept: str
    layers: tuple[str, ...]
    nodes: pd.DataFrame
    edges: pd.DataFrame
    ablation: Ablation | None = None
    notes: tuple[str, ...] = ()

    @property
    def ablated(self) -> dict[str, list[int]]:
        """Layer name -> the channels that are ablated."""
        rows = self.nodes[self.nodes["ablated"]]
        return {str(name): part["channel"].tolist() for name, part in rows.groupby("layer", sort=False)}

    def to_frame(self) -> pd.DataFrame:
        """The nodes."""
        return self.nodes.copy()

    def __repr__(self) -> str:
        channels = ", ".join(f"{len(c)} channels of {name}" for name, c in self.ablated.items())
        result = ""
        if self.ablation is not None and self.ablation.circuit.removed is not None:
            effect = self.ablation.circuit
            result = f"; ablating them removes {effect.removed:.0%} of the effect"
            result += f" and {100 * effect.balanced_drop:.1f} points of balanced AUROC"
        return f"Circuit({self.concept!r}: {channels or 'no channels'}{result})"

    def save(self, path: str | Path) -> Path:
        """Write as JSON; returns the path."""
        content = {
            "concept": self.concept,
            "layers": list(self.layers),
            "nodes": self.nodes.to_dict("records"),
            "edges": self.edges.to_dict("records"),
            "ablation": None if self.ablation is None else self.ablation.to_json(),
            "notes": list(self.notes),
        }
        write_json(Path(path), to_json(content))
        return Path(path)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The file is no circuit.
        """
        content = read_json(Path(path))
        if not isinstance(content, dict) or not {"concept", "nodes", "edges"} <= set(content):
            raise InputError(f"{path} is no circuit; give a file that Circuit.save wrote")
        nodes = pd.DataFrame(content["nodes"], columns=list(NODE_COLUMNS))
        nodes["auroc"] = nodes["auroc"].astype(float)
        ablation = content["ablation"]
        return cls(
            content["concept"],
            tuple(content["layers"]),
            nodes,
            pd.DataFrame(content["edges"], columns=list(EDGE_COLUMNS)),
            None if ablation is None else Ablation.from_json(ablation),
            tuple(content["notes"]),
        )


def find_circuit(
    model: nn.Module,
    scan: Scan,
    data: ImageTable,
    concept: Concept,
    *,
    searching: Searching | None = None,
    judging: Judging | None = None,
    head: Output = None,
    running: Running | None = None,
) -> Circuit:
    """Find the channels that carry a concept towards the decision.

    On each half of the samples the network runs about forty times, half of them with a backward pass.

    Parameters
    ----------
    model
        That was scanned; given back as it was.
    scan, data
        The scan, and the images it was made of.
    concept
        Of these samples, such as a finding's. Both classes need samples with and without it.
    searching
        Layers, size, and whether to compute edges.
    judging
        Samples, random sets, and the class whose margin is followed.
    head
        As in `scan`.
    running
        Device, batch size and bars.

    Raises
    ------
    InputError
        A layer that was not scanned, another table, too few samples of a group, a size below 1.
    """
    searching, judging, running = searching or Searching(), judging or Judging(), running or Running()
    running.require_only("a circuit", "device", "batch_size", "progress", *READING)
    data = data.keeping(running)
    names = _layer_names(scan, searching.layers)
    with (
        frozen(model, running.device),
        progress_bar(total=3 + searching.edges, desc="circuit", progress=running.progress) as bar,
    ):
        problem = circuit_problem(
            model, scan, data, concept, names, judging, batch_size=running.batch_size, output=head
        )
        sought, parts = _search_halves(problem, names, searching.size, judging, bar)
        # Two sets were judged; shown is the one that looked better where it was chosen.
        whole = max(sought, key=lambda candidate: candidate.value)
        nodes, sign = _nodes(problem, scan, whole, names)
        bar.update()
        links = pd.DataFrame(columns=list(EDGE_COLUMNS))
        if searching.edges:
            links = find_edges(model, problem, nodes, whole.layer, names, judging.side, scan.same_head(head))
        bar.update(searching.edges)
    ablation = Ablation.averaged(parts)
    notes = _notes(ablation, sought, whole, judging.side, sign)
    return Circuit(concept.name, tuple(names), nodes, links, ablation, notes)


def _search_halves(
    problem: CircuitProblem, names: Sequence[str], size: int | None, judging: Judging, bar: tqdm
) -> tuple[list[ChannelCandidate], list[Ablation]]:
    """Channels chosen on each half of the samples, and their ablation judged on the other."""
    sought, parts = [], []
    for half in (0, 1):
        train = problem.of_half(1 - half)
        reference = problem.reference(train)
        candidate = find_channels(problem, train, reference, names, size)
        bar.update()
        channels = {candidate.layer: np.flatnonzero(~candidate.keep).tolist()}
        part = judge(
            problem, channels, train, problem.of_half(half),
            reference=reference, draws=judging.draws, seed=judging.seed,
        )  # fmt: skip
        parts.append(part)
        sought.append(candidate)
    return sought, parts


def _layer_names(scan: Scan, layers: str | Sequence[str]) -> list[str]:
    if isinstance(layers, str) and layers == "auto":
        return [layer.name for layer in scan.layers]
    names = {scan.layer(name).name for name in ([layers] if isinstance(layers, str) else layers)}
    if not names:
        raise InputError("no layer is named; give names of scanned layers, or 'auto'")
    return [layer.name for layer in scan.layers if layer.name in names]


def _nodes(
    problem: CircuitProblem,
    scan: Scan,
    candidate: ChannelCandidate,
    names: Sequence[str],
) -> tuple[pd.DataFrame, int]:
    """The carriers of every layer, and all ablated channels."""
    network, within = problem.network, np.arange(len(problem.y))
    open_gates = keeping(network, {name: [] for name in names})
    margins, effects = network.effects(within, open_gates, problem.reference(within))
    sign = 1 if gap(problem.y[within], problem.a[within], margins) >= 0 else -1
    judgement = Judgement(problem.y[within], problem.a[within], margins)
    parts = []
    for name in names:
        score = sign * judgement.moments(effects[name])[0]
        ablated = ~candidate.keep if name == candidate.layer else np.zeros(len(score), bool)
        largest = np.argsort(-score)[:DRAWN_CHANNELS]
        channels = np.union1d(largest[score[largest] > 0], np.flatnonzero(ablated))
        channels = channels[np.argsort(-score[channels], kind="stable")]
        activation = scan.activation(name)[problem.rows][:, channels]
        auroc = [within_class_auroc(judgement.a, column, judgement.y) for column in activation.T]
        parts.append(
            pd.DataFrame(
                {"layer": name, "channel": channels.astype(int), "score": score[channels],
                 "auroc": np.asarray(auroc, float), "ablated": ablated[channels]}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)[list(NODE_COLUMNS)], sign


def _notes(
    ablation: Ablation, sought: Sequence[ChannelCandidate], whole: ChannelCandidate, positive: int, sign: int
) -> tuple[str, ...]:
    notes = [f"carriers are taken {'for' if sign > 0 else 'as not of'} class {positive} more than others"]
    if ablation.circuit.gap_before < MIN_GAP:
        notes.append(
            f"the effect on unseen samples is {ablation.circuit.gap_before:.3f} AUROC; there is nothing that "
            "an ablation could remove"
        )
    layers = [candidate.layer for candidate in sought]
    if len(set(layers)) > 1:
        notes.append(f"the two halves chose different layers: {layers[0]} and {layers[1]}")
    share = whole.size / len(whole.keep)
    if share > 0.5:
        notes.append(
            f"the ablated set is {share:.0%} of layer {whole.layer}: the concept is spread over it, and the "
            "channels left are those that tell the classes apart without it"
        )
    return tuple(notes)
