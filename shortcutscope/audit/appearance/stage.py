"""The appearance of all findings of an audit, from one pass over a bounded number of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from shortcutscope.audit.appearance.choice import (
    NearestPair,
    Neighbours,
    looked_at,
    patients_in_turn,
    shown_carriers,
    side_weights,
)
from shortcutscope.audit.appearance.contrast import ContrastSheet
from shortcutscope.audit.appearance.looking import Looks, look
from shortcutscope.audit.appearance.sheet import contrast_sheet, part_of
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.data.properties.names import OF_BOTH, OF_FILES
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.naming.appearance import appearance_of
from shortcutscope.discover.naming.ranking import rank_properties
from shortcutscope.discover.naming.texts import text_name_of
from shortcutscope.discover.naming.words import LEVEL, wording_of
from shortcutscope.models.texts import TextReader
from shortcutscope.processes import dealt, gathered, is_main
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Floats, Ints

#: Verdict of findings that are not looked at: of twenty concepts at fourteen outputs it is that of most.
NOT_LOOKED_AT = "not encoded"


@dataclass(frozen=True, eq=False)
class Seen:
    """Findings of one output, over its samples.

    Attributes
    ----------
    findings
        Of an audit, or of one of its outputs.
    concepts
        Values of every finding, and ``<name>.score``, in the order of the scan.
    scan
        Of the audited samples.
    """

    findings: Sequence[FindingRecord]
    concepts: pd.DataFrame
    scan: Scan

    @cached_property
    def labels(self) -> Ints:
        """Of its samples."""
        return self.scan.samples["label"].to_numpy().astype(np.int64)

    @cached_property
    def groups(self) -> Array:
        """Patients of its samples."""
        return self.scan.samples["group"].to_numpy().astype(str)

    @cached_property
    def whole(self) -> Ints:
        """Its samples among those of all outputs."""
        rows = self.scan.rows_in_whole
        return np.arange(len(self.labels)) if rows is None else rows

    @cached_property
    def values(self) -> dict[str, Floats]:
        """Of the findings that a sample is known to carry; what is not encoded is not looked at."""
        names = [f.name for f in self.findings if f.verdict != NOT_LOOKED_AT and f.name in self.concepts]
        values = {name: self.concepts[name].to_numpy(float, na_value=np.nan) for name in names}
        return {name: value for name, value in values.items() if (value == 1).any()}

    def scores(self, name: str) -> Floats:
        """Larger for surer carriers of a finding; NaN where unknown."""
        column = f"{name}.score"
        if column not in self.concepts:
            return np.full(len(self.labels), np.nan)
        return self.concepts[column].to_numpy(float)


@dataclass(frozen=True, eq=False)
class Looked:
    """Findings with their appearance, and the contrast sheet of each by name."""

    findings: list[FindingRecord]
    contrasts: Mapping[str, ContrastSheet]


def with_appearance(
    outputs: Sequence[Seen],
    table: ImageTable,
    *,
    texts: TextReader | None = None,
    seed: int,
    workers: int | None,
    progress: bool,
) -> list[Looked]:
    """Findings with what their carriers look like beside others of their label.

    Findings of which no carrier is known stay as they are. Of processes that share the work the main one
    alone has the contrast sheets, which it writes.

    Parameters
    ----------
    outputs
        The findings of each output; of an audit of one label there is one.
    table
        All audited samples.
    texts
        By which findings are named, too.
    seed
        Of the choice of samples, and of chance.
    workers, progress
        How images are read.
    """
    choices = [_Choice.of(seen, seed) for seen in outputs]
    rows = np.unique(np.concatenate([choice.seen.whole[choice.rows] for choice in choices]))
    if not len(rows):
        return [Looked(list(seen.findings), {}) for seen in outputs]
    own = [_own(choice.seen, rows) for choice in choices]
    weights = [choice.weights(of, len(rows)) for choice, of in zip(choices, own, strict=True)]
    shown = sorted({int(choice.seen.whole[row]) for choice in choices for row in choice.shown})
    looks = look(table, rows, np.concatenate(weights), shown, texts=texts, workers=workers, progress=progress)
    starts = np.cumsum([0, *(len(one) for one in weights)])
    return [
        choice.looked(looks, looks.sums[start : start + len(one)], one, of, seed)
        for choice, one, of, start in zip(choices, weights, own, starts, strict=False)
    ]


@dataclass(frozen=True, eq=False)
class _Own:
    """Which of the samples that are looked at are an output's.

    Attributes
    ----------
    places
        Among those that are looked at.
    rows
        Among the output's.
    """

    places: Ints
    rows: Ints


def _own(seen: Seen, rows: Ints) -> _Own:
    _, places, own = np.intersect1d(rows, seen.whole, assume_unique=True, return_indices=True)
    return _Own(places, own)


@dataclass(frozen=True, eq=False)
class _Choice:
    """What of an output is looked at and shown; samples by their numbers among the output's."""

    seen: Seen
    rows: Ints
    pairs: Mapping[str, Sequence[NearestPair]]

    @classmethod
    def of(cls, seen: Seen, seed: int) -> Self:
        values, labels, groups = seen.values, seen.labels, seen.groups
        if not values:
            return cls(seen, np.empty(0, np.int64), {})
        order = patients_in_turn(groups, seed)
        rows = looked_at(values, labels, groups, seed=seed)
        among = order[np.isin(order, rows)]
        carriers = {n: shown_carriers(v, seen.scores(n), labels, among) for n, v in values.items()}
        stored = seen.scan.activation_rows(seen.scan.layers[-1], "mean")
        neighbours = Neighbours.among(stored, labels, rows, order)
        pairs = {name: neighbours.pairs(value, carriers[name]) for name, value in values.items()}
        return cls(seen, np.union1d(rows, np.array(sorted(_shown(pairs)), np.int64)), pairs)

    @property
    def shown(self) -> set[int]:
        return _shown(self.pairs)

    def weights(self, own: _Own, count: int) -> Floats:
        """(findings, 2, samples looked at)."""
        weights = np.zeros((len(self.pairs), 2, count))
        for k, name in enumerate(self.pairs):
            weights[k][:, own.places] = side_weights(self.seen.values[name], self.seen.labels, own.rows)
        return weights

    def looked(self, looks: Looks, sums: Floats, weights: Floats, own: _Own, seed: int) -> Looked:
        seen = self.seen
        labels, groups = seen.labels[own.rows], seen.groups[own.rows]
        properties = {name: column[own.places] for name, column in looks.properties.items()}
        nearness = {text: column[own.places] for text, column in looks.nearness.items()}
        named = [finding for finding in seen.findings if finding.name in self.pairs]

        def appearance(finding: FindingRecord) -> dict[str, Any]:
            value = seen.values[finding.name][own.rows]
            ranking = rank_properties(_beyond(properties, finding), value, labels, groups, seed=seed)
            seen_as = appearance_of(ranking, localized=finding.extent == "localized").to_dict()
            if nearness:
                by_text = rank_properties(nearness, value, labels, groups, seed=seed)
                seen_as["text"] = text_name_of(by_text).to_dict()
            return seen_as

        dealt_out = dealt([1.0] * len(named))
        parts = gathered(lambda: {named[k].name: appearance(named[k]) for k in dealt_out}, "names")
        appearances = {name: one for part in parts for name, one in part.items()}
        findings = [
            replace(finding, appearance=appearances[finding.name]) if finding.name in appearances else finding
            for finding in seen.findings
        ]
        return Looked(findings, self.contrasts(looks, sums, weights) if is_main() else {})

    def contrasts(self, looks: Looks, sums: Floats, weights: Floats) -> dict[str, ContrastSheet]:
        seen = self.seen
        ids = seen.scan.samples["sample_id"].to_numpy().astype(str)
        parts = {f.name: part_of(f.evidence) for f in seen.findings if f.extent == "localized"}
        return {
            name: contrast_sheet(
                looks,
                pairs,
                sums[k],
                weights[k],
                labels=seen.labels,
                ids=ids,
                places=seen.whole,
                part=parts.get(name),
            )
            for k, (name, pairs) in enumerate(self.pairs.items())
        }


def _shown(pairs: Mapping[str, Sequence[NearestPair]]) -> set[int]:
    return {row for own in pairs.values() for p in own for row in (p.carrier, p.other) if row is not None}


def _beyond(properties: Mapping[str, Array], finding: FindingRecord) -> Mapping[str, Array]:
    """Without what a finding of a file's column was read from: its name says that already."""
    column = None if finding.reading is None else finding.reading.column
    if column not in OF_FILES and column not in OF_BOTH:
        return properties
    family = wording_of(str(column)).family
    return {k: v for k, v in properties.items() if wording_of(k.partition(LEVEL)[0]).family != family}
