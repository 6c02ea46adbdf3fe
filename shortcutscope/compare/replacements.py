"""Shortcuts that took the place of the old one: what a student uses more than the biased network did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats
from torch import nn

from shortcutscope.audit.audited_data import TrainingData
from shortcutscope.audit.discovery import twin
from shortcutscope.audit.interventions.use_and_extent import use_of_all
from shortcutscope.compare.estimate import Estimate
from shortcutscope.compare.networks import BEFORE
from shortcutscope.compare.setup import ComparisonSetup
from shortcutscope.compare.space import Space, space_context, use_estimate
from shortcutscope.discover.proposals import discover
from shortcutscope.options import Running, Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.usage import EFFECT_THRESHOLD
from shortcutscope.probes.verdict import VerdictRule, untestable
from shortcutscope.stats.bootstrap import percentile_interval
from shortcutscope.stats.testing import benjamini_hochberg

__all__ = ["Replacement", "ReplacementSearch", "search_replacements"]

Kind = Literal["new", "stronger"]
#: Share of false findings among those that are listed.
LEVEL = VerdictRule().level


@dataclass(frozen=True)
class Replacement:
    """A concept that a student's output follows more than the biased network's did.

    Attributes
    ----------
    student, concept, description, origin
        Which network; what, in words; and where the concept is from: a column, a finding, or
        ``"discovered"`` in the student.
    kind
        ``"new"`` where the biased network's use was below what counts as use, else ``"stronger"``.
    before, after
        Use at the decision layer: the change of the output, in standard deviations within a class, when the
        concept is taken out; with the intervals.
    before_interval, after_interval, change_interval
        95 %, by patient; of the change on the same resamples.
    change
        By how much use is farther from zero in the student.
    q
        Of the change, among all concepts that were looked at in this student (Benjamini & Hochberg 1995).
    carriers
        Samples that carry it.
    """

    student: str
    concept: str
    description: str
    origin: str
    kind: Kind
    before: float
    after: float
    change: float
    before_interval: tuple[float, float]
    after_interval: tuple[float, float]
    change_interval: tuple[float, float]
    q: float
    carriers: int

    def text(self) -> str:
        """In a sentence."""
        what = f" ({self.description})" if self.origin == "discovered" and self.description else ""
        use = f"use of {self.before:+.2f} before, {self.after:+.2f} after"
        return (
            f"{self.student}, {self.concept}{what}: {use}, {self.kind} (change {self.change:+.2f}, "
            f"{self.change_interval[0]:+.2f} to {self.change_interval[1]:+.2f}; {_q(self.q)})"
        )


@dataclass(frozen=True)
class ReplacementSearch:
    """What was looked for in a student.

    Attributes
    ----------
    found
        Largest change first.
    looked_at
        Names of the concepts whose use was compared.
    notes
        What was not looked at, and why.
    """

    found: tuple[Replacement, ...]
    looked_at: tuple[str, ...]
    notes: tuple[str, ...]

    def sentences(self, student: str) -> list[str]:
        """What a reader must know of the search."""
        n, n_found = len(self.looked_at), len(self.found)
        outcome = f"{n_found} may have taken" if n_found else "none took"
        text = f"of {n} concepts that were looked at, {outcome} the place of what was unlearnt"
        return [f"{student}: {one}" for one in (text, *self.notes)]


def search_replacements(
    setup: ComparisonSetup,
    networks: Mapping[str, nn.Module],
    spaces: Mapping[str, Space],
    folders: Mapping[str, Path],
    findings: Sequence[Concept],
    *,
    train: TrainingData,
    statistics: Statistics,
    running: Running,
) -> dict[str, ReplacementSearch]:
    """Look in every student for what took the place of the concept that was unlearnt.

    Candidates are the other columns, the findings of the audit that are known of these samples, and what a
    search of the student's own scan proposes. Each is taken out of the decision layer of both networks, on
    the same samples. It is a replacement where the student's use is farther from zero (q of the paired
    difference), and large enough to count as use.

    Parameters
    ----------
    setup
        With the main table, on which the networks were audited.
    networks, spaces, folders
        All networks, their audits and run directories, by name; the biased one among them.
    findings
        Of the audit of the biased network.
    train, statistics, running
        Of these audits.
    """
    results = {}
    for name, space in spaces.items():
        if name == BEFORE:
            continue
        candidates, notes = _candidates(setup, space, findings, statistics, running)
        pairs = []
        for one in (BEFORE, name):
            with space_context(
                networks[one], spaces[one], setup, folders[one], train, statistics, running
            ) as context:
                used = use_of_all(context, candidates, setup.positive)
                pairs.append([use_estimate(context, c, used[c.name], setup.positive) for c in candidates])
        judged = _judged(name, candidates, *pairs) if candidates else []
        results[name] = ReplacementSearch(tuple(judged), tuple(c.name for c in candidates), notes)
    return results


def _candidates(
    setup: ComparisonSetup,
    space: Space,
    findings: Sequence[Concept],
    statistics: Statistics,
    running: Running,
) -> tuple[list[Concept], tuple[str, ...]]:
    """Concepts over the samples of the scan, none of which names those of another, or of the one unlearnt."""
    scan, table = space.audit.scan, setup.tables[setup.main]
    ids, labels = scan.samples["sample_id"], scan.samples["label"].to_numpy(np.int64)
    own = scan.rows_of(table)
    discovery = discover(scan, own, seed=statistics.seed, running=replace(running, progress=False))
    proposed = [p.concept for p in discovery.proposals if p.concept is not None]
    main = setup.concept[setup.main].aligned_to(ids)
    kept: list[Concept] = []
    notes = [
        f"the search of the student found nothing to look at: {n}" for n in discovery.notes if not proposed
    ]
    for concept in [*setup.others, *_known(findings, main.name, ids), *proposed]:
        aligned = concept.aligned_to(ids)
        if twin(aligned, [main], labels) is not None:
            if concept.origin == "discovered":
                notes.append(
                    f"{concept.name} names the samples of {main.name}: what was to be unlearnt is still told"
                )
            continue
        same = twin(aligned, kept, labels)
        why = untestable(aligned.values, labels, scan.samples["group"].to_numpy(), VerdictRule())
        if same is None and why is None:
            kept.append(_unique(aligned, kept))
    return kept, tuple(notes)


def _unique(concept: Concept, others: Sequence[Concept]) -> Concept:
    """A finding of the biased network and a proposal in the student may both be called "discovered 1"."""
    if concept.name not in {other.name for other in others}:
        return concept
    return replace(concept, name=f"{concept.name} in the student")


def _known(findings: Sequence[Concept], main: str, ids: object) -> list[Concept]:
    """Findings of the audit whose values are known of some of these samples."""
    wanted = set(np.asarray(ids, np.str_).tolist())
    return [c for c in findings if c.name != main and wanted & set(c.sample_ids.tolist())]


def _judged(
    student: str, candidates: Sequence[Concept], before: Sequence[Estimate], after: Sequence[Estimate]
) -> list[Replacement]:
    changes = [np.abs(b.resampled) - np.abs(a.resampled) for a, b in zip(before, after, strict=True)]
    measured = [k for k, c in enumerate(changes) if len(c) and np.nanstd(c) > 0]
    sizes = {k: abs(after[k].value) - abs(before[k].value) for k in measured}
    p = [float(stats.norm.sf(sizes[k] / np.nanstd(changes[k]))) for k in measured]
    limit = EFFECT_THRESHOLD["held-out"]
    found = []
    for k, q in zip(measured, benjamini_hochberg(p) if p else [], strict=True):
        if q > LEVEL or abs(after[k].value) < limit:
            continue
        concept, a, b = candidates[k], before[k], after[k]
        kind: Kind = "new" if abs(a.value) < limit else "stronger"
        found.append(
            Replacement(
                student, concept.name, concept.description, concept.origin, kind, a.value, b.value, sizes[k],
                a.interval, b.interval, percentile_interval(changes[k]), float(q),
                int((concept.values == 1).sum()),
            )
        )  # fmt: skip
    return sorted(found, key=lambda r: -r.change)


def _q(q: float) -> str:
    return f"q {q:.2g}" if q >= 0.001 else "q < 0.001"
