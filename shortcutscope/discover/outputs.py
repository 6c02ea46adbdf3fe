"""The search of a scan of several labels: each output's own, and what they found in common.

What is read of the images is read once. The search of an output is that of a scan of one label, with the
samples of which that label is known; proposals of several outputs that name the same samples are one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.candidates import correlation_within
from shortcutscope.discover.early import early_features
from shortcutscope.discover.proposal import Proposal, numbered, proposal_name
from shortcutscope.discover.proposals import Discovery, discover
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.progress import progress_bar
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Floats, Ints

#: Agreement, within the classes of both labels, from which proposals of two outputs name the same samples.
SAME_SAMPLES = 0.5


@dataclass(frozen=True, eq=False)
class SharedProposal:
    """A proposal of one output or of several.

    Attributes
    ----------
    name
        Unique among those of all outputs.
    concept
        Over all samples. Its values are those of the strongest proposal; where the label of that output is
        unknown, those of the next one.
    of
        Output to the proposal of its search, strongest first, which goes by the shared name.
    """

    name: str
    concept: Concept
    of: Mapping[str, Proposal]

    @property
    def strongest(self) -> Proposal:
        """The proposal whose values these are."""
        return next(iter(self.of.values()))

    @property
    def outputs(self) -> tuple[str, ...]:
        """That it was found for."""
        return tuple(self.of)


@dataclass(frozen=True, eq=False)
class OutputsDiscovery:
    """What was proposed for several outputs.

    Attributes
    ----------
    proposals
        Strongest first.
    by_output
        Output to its own search, whose proposals and reasons go by the names of `proposals`.
    looked_at
        Scores, times classes, of all outputs together.
    """

    proposals: list[SharedProposal]
    by_output: Mapping[str, Discovery]
    looked_at: int


def discover_outputs(
    scan: Scan,
    table: ImageTable,
    outputs: Mapping[str, Scan],
    *,
    seed: int = 0,
    running: Running | None = None,
) -> OutputsDiscovery:
    """Look for shortcuts at each output of a scan of several labels.

    Parameters
    ----------
    scan
        Of all samples.
    table
        The scanned samples, in the order of `scan`.
    outputs
        Label to the scan of its output (`Scan.output`).
    seed, running
        As in `discover`.

    Raises
    ------
    InputError
        When `scan` is not of `table`.
    """
    ids = scan.samples["sample_id"]
    if ids.tolist() != table.frame["sample_id"].tolist():
        raise InputError("the scan is not of this table: their sample ids differ; scan the table first")
    running = running or Running()
    early = early_features(scan, table, running)
    by_output = {}
    searched = progress_bar(outputs.items(), desc="searching", unit="output", progress=running.progress)
    for name, view in searched:
        rows = _rows(view)
        by_output[name] = discover(
            view, table.for_label(name), seed=seed, running=running, early=early.take(rows)
        )
    looked_at = sum(one.looked_at for one in by_output.values())
    groups = _groups(by_output, {name: _values(view, len(scan)) for name, view in outputs.items()})
    names = {output: numbered(one.dropped, len(groups) + 1) for output, one in by_output.items()}
    for number, group in enumerate(groups, 1):
        for member in group:
            names[member.output][member.proposal.name] = proposal_name(number)
    shared = [
        _shared([m.renamed(names[m.output]) for m in group], ids.to_numpy(), looked_at) for group in groups
    ]
    renamed = {output: one.renamed(names[output]) for output, one in by_output.items()}
    return OutputsDiscovery(shared, renamed, looked_at)


def _rows(view: Scan) -> Ints:
    rows = view.rows_in_whole
    assert rows is not None
    return rows


def _values(view: Scan, n: int) -> Floats:
    """(n,) the label of an output over all samples, NaN where it is unknown."""
    values: Floats = np.full(n, np.nan)
    values[_rows(view)] = view.samples["label"].to_numpy(float)
    return values


@dataclass(frozen=True, eq=False)
class _Member:
    """A proposal of one output, over all samples."""

    output: str
    proposal: Proposal
    values: Floats
    labels: Floats

    def renamed(self, names: Mapping[str, str]) -> _Member:
        return replace(self, proposal=self.proposal.renamed(names))

    def correlation(self, other: _Member) -> float:
        """Of the carriers of two proposals, within the classes of both labels, of samples that both know."""
        both = np.isfinite(self.values) & np.isfinite(other.values)
        strata = (2 * self.labels + other.labels)[both].astype(np.int64)
        return correlation_within(self.values[both], other.values[both], strata)


def _groups(found: Mapping[str, Discovery], labels: Mapping[str, Floats]) -> list[list[_Member]]:
    """Proposals that name the same samples, those of the strongest first; of each output one at most."""
    members = []
    for name, one in found.items():
        rows = np.flatnonzero(np.isfinite(labels[name]))
        for proposal in one.proposals:
            assert proposal.concept is not None
            values = np.full(len(labels[name]), np.nan)
            values[rows] = proposal.concept.values
            members.append(_Member(name, proposal, values, labels[name]))
    groups: list[list[_Member]] = []
    for member in sorted(members, key=lambda m: -m.proposal.strength):
        alike = (
            group
            for group in groups
            if member.output not in {m.output for m in group}
            and abs(group[0].correlation(member)) >= SAME_SAMPLES
        )
        group = next(alike, None)
        if group is None:
            groups.append([member])
        else:
            group.append(member)
    return groups


def _shared(members: Sequence[_Member], ids: Array, looked_at: int) -> SharedProposal:
    first, name = members[0], members[0].proposal.name
    values = first.values.copy()
    covered = np.isfinite(first.labels)
    for member in members[1:]:
        more = np.isfinite(member.labels) & ~covered
        # Carriers of one label may be those without it at another, which the shortcut speaks against.
        same = first.correlation(member) > 0
        values[more] = member.values[more] if same else 1 - member.values[more]
        covered |= more
    outputs = [member.output for member in members]
    of = f"at {outputs[0]}" if len(outputs) == 1 else f"at the outputs {', '.join(outputs)}"
    concept = first.proposal.concept
    assert concept is not None
    text = f"{concept.description} ({of})"
    shared = Concept(name, values, "discovered", ids, text, selected_from=looked_at)
    return SharedProposal(name, shared, {member.output: member.proposal for member in members})
