"""Which samples are looked at for all findings of an audit, and which of them are shown beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shortcutscope.scan.rows import StoredRows
from shortcutscope.types import Array, Bools, Floats, Ints

#: Samples that are drawn for all findings, samples that are added where a side of a finding has fewer in a
#: label, and samples at most, all findings together.
SHARED, A_SIDE, MOST = 600, 60, 4000
#: Carriers that are shown, and samples among which their nearest is looked for.
SHOWN, CANDIDATES = 6, 20_000
#: Of the carriers those with the highest scores, by this share, are shown from.
SUREST = 0.5
_BLOCK = 4096


@dataclass(frozen=True)
class NearestPair:
    """A carrier and the sample without it that is most like it otherwise.

    Attributes
    ----------
    carrier
        Number of the sample.
    other
        Of the same label; None where every sample of that label carries it.
    """

    carrier: int
    other: int | None


def looked_at(values: Mapping[str, Floats], labels: Ints, groups: Array, *, seed: int) -> Ints:
    """Samples that are read for all findings, in rising order, as many patients as can be.

    Parameters
    ----------
    values
        Finding to 1, 0 or NaN for every sample.
    labels, groups
        Of every sample.
    seed
        Of the choice.
    """
    order = patients_in_turn(groups, seed)
    classes = np.unique(labels)
    chosen = np.zeros(len(labels), bool)
    for label in classes:
        chosen[order[labels[order] == label][: -(-SHARED // len(classes))]] = True
    for value in values.values():
        for label in classes:
            for side in (1.0, 0.0):
                members = order[(labels[order] == label) & (value[order] == side)]
                lacking = A_SIDE - int(chosen[members].sum())
                if lacking > 0 and chosen.sum() < MOST:
                    chosen[members[~chosen[members]][:lacking]] = True
    return np.flatnonzero(chosen)


def patients_in_turn(groups: Array, seed: int) -> Ints:
    """All samples in a drawn order, every patient's first before any patient's second."""
    drawn = np.random.default_rng(seed).permutation(len(groups))
    _, patient = np.unique(groups[drawn], return_inverse=True)
    by_patient = np.argsort(patient, kind="stable")
    sorted_patients = patient[by_patient]
    first = np.searchsorted(sorted_patients, sorted_patients)
    turn = np.empty(len(drawn), int)
    turn[by_patient] = np.arange(len(drawn)) - first
    return drawn[np.argsort(turn, kind="stable")]


def shown_carriers(value: Floats, scores: Floats, labels: Ints, order: Ints) -> Ints:
    """Carriers that are shown: the surest, of all labels in turn, each label's in the drawn order.

    Parameters
    ----------
    value, labels
        Of all samples.
    scores
        Larger for surer carriers; NaN where unknown.
    order
        Samples, in the order in which they are taken.
    """
    of_labels = []
    for label in np.unique(labels[value == 1]):
        members = order[(labels[order] == label) & (value[order] == 1)]
        member_scores = np.nan_to_num(scores[members], nan=-np.inf)
        enough = max(SHOWN, int(np.ceil(SUREST * len(members))))
        sure = set(members[np.argsort(-member_scores, kind="stable")[:enough]].tolist())
        of_labels.append([int(row) for row in members if int(row) in sure][:SHOWN])
    in_turn = [rows[k] for k in range(SHOWN) for rows in of_labels if k < len(rows)]
    return np.array(sorted(in_turn[:SHOWN], key=lambda row: int(labels[row])), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Samples by their features at a layer, for finding what is alike.

    Attributes
    ----------
    rows
        (M,) numbers of the samples.
    features
        (M, C), every channel in units of its standard deviation.
    labels
        (M,).
    """

    rows: Ints
    features: Floats
    labels: Ints

    @classmethod
    def among(cls, stored: StoredRows, labels: Ints, needed: Ints, order: Ints) -> Neighbours:
        """Of a scan's layer: the needed samples, and of the others as many as are looked among."""
        rows = np.unique(np.concatenate([needed, order[:CANDIDATES]]))
        parts = []
        for start in range(0, stored.shape[0], _BLOCK):
            stop = min(start + _BLOCK, stored.shape[0])
            inside = rows[(rows >= start) & (rows < stop)]
            if len(inside):
                parts.append(np.asarray(stored.read(start, stop), np.float32)[inside - start])
        features = np.concatenate(parts)
        spread = features.std(0)
        scaled = np.divide(features, spread, out=np.zeros_like(features), where=spread > 0)
        return cls(rows, scaled, labels[rows])

    def pairs(self, value: Floats, carriers: Ints) -> list[NearestPair]:
        """Each carrier with the sample of its label without the concept that is most like it otherwise.

        The concept's own direction, the difference of both sides within label, does not count.

        Parameters
        ----------
        value
            1, 0 or NaN of all samples.
        carriers
            Numbers of samples, among `rows`.
        """
        values_here = value[self.rows]
        features = self._without(values_here)
        free = values_here == 0
        pairs = []
        for carrier in carriers.tolist():
            place = int(np.searchsorted(self.rows, carrier))
            candidates = np.flatnonzero(free & (self.labels == self.labels[place]))
            if not len(candidates):
                pairs.append(NearestPair(carrier, None))
                continue
            distances = ((features[candidates] - features[place]) ** 2).sum(1)
            nearest = candidates[int(np.argmin(distances))]
            if len(candidates) > 1:
                free[nearest] = False
            pairs.append(NearestPair(carrier, int(self.rows[nearest])))
        return pairs

    def _without(self, values_here: Floats) -> Floats:
        direction = np.zeros(self.features.shape[1], np.float32)
        for label in np.unique(self.labels):
            ones, zeros = ((self.labels == label) & (values_here == side) for side in (1, 0))
            if ones.any() and zeros.any():
                weight = ones.sum() * zeros.sum() / (ones.sum() + zeros.sum())
                direction += weight * (self.features[ones].mean(0) - self.features[zeros].mean(0))
        length = float(np.linalg.norm(direction))
        if not length:
            return self.features
        direction /= length
        projected: Floats = self.features - (self.features @ direction)[:, None] * direction
        return projected


def side_weights(value: Floats, labels: Ints, rows: Ints) -> tuple[Floats, Floats]:
    """Weights of the looked-at samples in the mean of carriers and in that of others, labels alike in both.

    Labels that lack one of the sides do not count; where all do, every sample counts alike.
    """
    values_here, of = value[rows], labels[rows]
    sides: list[Bools] = [values_here == 1, values_here == 0]
    weights = [np.zeros(len(rows)), np.zeros(len(rows))]
    for label in np.unique(of):
        n = [int((side & (of == label)).sum()) for side in sides]
        if min(n):
            for k, side in enumerate(sides):
                weights[k][side & (of == label)] = n[1 - k] / sum(n)
    for k, side in enumerate(sides):
        if not weights[k].any():
            weights[k][side] = 1.0
        if weights[k].any():
            weights[k] /= weights[k].sum()
    return weights[0], weights[1]
