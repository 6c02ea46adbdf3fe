"""The appearance of all findings of an audit, from one pass over a bounded number of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from shortcutscope.audit.appearance.choice import (
    Neighbours,
    Pair,
    looked_at,
    patients_in_turn,
    shown_carriers,
    side_weights,
)
from shortcutscope.audit.appearance.contrast import Contrast
from shortcutscope.audit.appearance.looking import Looks, look
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.data.pictures import as_picture
from shortcutscope.data.properties.names import OF_BOTH, OF_FILES
from shortcutscope.data.table import ImageTable
from shortcutscope.discover.naming.appearance import appearance_of
from shortcutscope.discover.naming.ranking import rank_properties
from shortcutscope.discover.naming.words import LEVEL, wording_of
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Floats, Ints


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
        """Of the findings that a sample is known to carry."""
        names = [f.name for f in self.findings if f.name in self.concepts]
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
    contrasts: Mapping[str, Contrast]


def with_appearance(
    outputs: Sequence[Seen], table: ImageTable, *, seed: int, workers: int | None, progress: bool
) -> list[Looked]:
    """Findings with what their carriers look like beside others of their label.

    Findings of which no carrier is known stay as they are.

    Parameters
    ----------
    outputs
        The findings of each output; of an audit of one label there is one.
    table
        All audited samples.
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
    looks = look(table, rows, np.concatenate(weights), shown, workers=workers, progress=progress)
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
    pairs: Mapping[str, Sequence[Pair]]

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
        findings = []
        for finding in seen.findings:
            if finding.name in self.pairs:
                value = seen.values[finding.name][own.rows]
                ranking = rank_properties(_beyond(properties, finding), value, labels, groups, seed=seed)
                appearance = appearance_of(ranking, localized=finding.extent == "localized")
                finding = replace(finding, appearance=appearance.to_dict())
            findings.append(finding)
        contrasts = {
            name: _contrast(seen, pairs, sums[k], weights[k], looks)
            for k, (name, pairs) in enumerate(self.pairs.items())
        }
        return Looked(findings, contrasts)


def _shown(pairs: Mapping[str, Sequence[Pair]]) -> set[int]:
    return {row for own in pairs.values() for p in own for row in (p.carrier, p.other) if row is not None}


def _beyond(properties: Mapping[str, Array], finding: FindingRecord) -> Mapping[str, Array]:
    """Without what a finding of a file's column was read from: its name says that already."""
    column = None if finding.reading is None else finding.reading.column
    if column not in OF_FILES and column not in OF_BOTH:
        return properties
    family = wording_of(str(column)).family
    return {k: v for k, v in properties.items() if wording_of(k.partition(LEVEL)[0]).family != family}


def _contrast(seen: Seen, pairs: Sequence[Pair], sums: Floats, weights: Floats, looks: Looks) -> Contrast:
    ids = seen.scan.samples["sample_id"].to_numpy().astype(str)
    means = [one if weight.any() else one[..., :0] for one, weight in zip(sums, weights, strict=True)]
    plane, cut = None, ""
    if looks.kind == "volume":
        depth = sums.shape[2]
        whole = all(weight.any() for weight in weights)
        plane = int(np.abs(sums[0] - sums[1]).mean(0).mean((1, 2)).argmax()) if whole else depth // 2
        means = [one[:, plane] for one in means]
        cut = "axial slice" if looks.axial else "slice along the first axis"
        cut += f", at {(plane + 0.5) / depth:.0%} of the depth"

    def picture(row: int | None) -> Array | None:
        return None if row is None else _flat(looks.shown[int(seen.whole[row])], plane)

    shown = [(picture(pair.carrier), picture(pair.other)) for pair in pairs]
    height, width = (max(x.shape[k] for pair in shown for x in pair if x is not None) for k in (0, 1))
    colours = any(x.ndim == 3 for pair in shown for x in pair if x is not None)
    mean_carriers, mean_others = (_channels_last(one, looks.kind) for one in means)
    return Contrast(
        np.stack([_on_canvas(carrier, height, width, colours=colours) for carrier, _ in shown]),
        np.stack([_on_canvas(other, height, width, colours=colours) for _, other in shown]),
        tuple(ids[p.carrier] for p in pairs),
        tuple("" if p.other is None else ids[p.other] for p in pairs),
        seen.labels[[p.carrier for p in pairs]].astype(np.int64),
        mean_carriers,
        mean_others,
        looks.kind,
        cut,
    )


def _flat(picture: Array, plane: int | None) -> Array:
    """A picture, of a small volume its slice."""
    return picture if plane is None else as_picture(picture[:, plane], (0.0, 1.0))


def _on_canvas(picture: Array | None, height: int, width: int, *, colours: bool) -> Array:
    """A picture in the middle of a black one."""
    canvas = np.zeros((height, width, 3) if colours else (height, width), np.uint8)
    if picture is not None:
        if colours and picture.ndim == 2:
            picture = picture[..., None]
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


def _channels_last(mean: Floats, kind: str) -> Floats:
    """(h, w) or (h, w, 3) of an image's mean; that of a signal stays (leads, time)."""
    if kind == "signal" or not mean.size:
        return mean if kind == "signal" else np.zeros((0, 0), np.float32)
    return mean[0] if len(mean) == 1 else np.moveaxis(mean, 0, -1)
