"""One encoder: what its features encode, and what of it a linear head uses, concept by concept.

The probes, nulls, tests and words are those of an audit (:mod:`shortcutscope.probes`); the features are the
one layer there is. Taking a concept out of them and scoring them again costs nothing, so that use is
measured on all samples, and by the head's own margins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from shortcutscope.audit.audited_data import Role
from shortcutscope.audit.finding import (
    FindingRecord,
    Measurements,
    conclude,
    rank,
    untested,
    use_statement,
)
from shortcutscope.audit.provenance import performance
from shortcutscope.embeddings.beside import besides
from shortcutscope.embeddings.means import means_p
from shortcutscope.embeddings.scores import FEATURES, LinearScores
from shortcutscope.options import Statistics
from shortcutscope.probes.association import Association
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import Permutations, ProbeSettings, availability, make_folds
from shortcutscope.probes.usage import EFFECT_THRESHOLD, UseResult, UseSamples, use_result
from shortcutscope.probes.verdict import VerdictRule
from shortcutscope.stats.testing import benjamini_hochberg
from shortcutscope.types import JSON, Floats, Ints, Record

#: There is nowhere in a vector that a concept could be confined to.
NO_EXTENT: JSON = {"verdict": "undetermined", "reason": "not measured: features have no places in the image"}
#: What the findings are to say instead of what is true of networks alone.
_WORDS = {
    "no layer tells carriers": "the features do not tell carriers",
    "layers encode it": "the features encode it",
}


@dataclass(frozen=True, eq=False)
class TestedConcepts:
    """What is asked of every encoder alike.

    Attributes
    ----------
    concepts
        Aligned to the samples.
    reasons
        Concept to why it is not testable, None where it is.
    associations
        Concept to its association and where it was measured.
    q
        Of the associations.
    rule
        Limits of the verdicts.
    """

    concepts: Sequence[Concept]
    reasons: Mapping[str, str | None]
    associations: Mapping[str, tuple[Association, str]]
    q: Mapping[str, float]
    rule: VerdictRule = field(default_factory=VerdictRule)

    @property
    def testable(self) -> list[Concept]:
        """Those that are."""
        return [c for c in self.concepts if self.reasons[c.name] is None]


@dataclass(frozen=True)
class EncoderRecord:
    """What was found of one encoder.

    Attributes
    ----------
    name
        As it was given.
    findings
        One per concept, shortcuts first, by what they cost.
    n_features
        Width of the features.
    head
        ``"given"``, or how it was fitted here.
    performance
        Of the head: auroc, accuracy, balanced_accuracy, ece.
    notes
        What a reader should know.
    """

    name: str
    findings: tuple[FindingRecord, ...]
    n_features: int
    head: str
    performance: Mapping[str, float | None]
    notes: tuple[str, ...] = ()

    @property
    def shortcuts(self) -> tuple[FindingRecord, ...]:
        """The findings whose verdict is ``shortcut``."""
        return tuple(f for f in self.findings if f.verdict == "shortcut")


def examine_encoder(
    name: str,
    scores: LinearScores,
    tested: TestedConcepts,
    statistics: Statistics,
    role: Role,
    notes: Sequence[str] = (),
) -> EncoderRecord:
    """Probe an encoder's features for each concept, take it out, and conclude.

    Parameters
    ----------
    name
        Of the encoder.
    scores
        Its features and head.
    tested
        The concepts; the q values of "encoded" are over those of this encoder, so that its verdicts are the
        same whatever stands beside it.
    statistics
        Permutations, resamples and their seed.
    role
        What the samples are to the head.
    notes
        Of the features.
    """
    findings = [
        untested(c, str(tested.reasons[c.name]), tested.associations.get(c.name))
        for c in tested.concepts
        if tested.reasons[c.name] is not None
    ]
    findings += [
        _with_both(
            conclude(
                scores,
                concept,
                measured,
                role,
                tested.rule,
                n_bootstrap=statistics.n_bootstrap,
                seed=statistics.seed,
            ),
            measured.probe,
            tested.rule.level,
        )
        for concept, measured in _measured(scores, tested, statistics, role)
    ]
    known = performance(scores)
    return EncoderRecord(
        name,
        tuple(rank([_reworded(f) for f in findings])),
        scores.features.shape[1],
        scores.heads.origin,
        known,
        (*notes, *_doubts(scores, known)),
    )


def _measured(
    scores: LinearScores, tested: TestedConcepts, statistics: Statistics, role: Role
) -> list[tuple[Concept, Measurements]]:
    """What is measured of every testable concept."""
    testable, rule = tested.testable, tested.rule
    if not testable:
        return []
    probes = _probe(scores, testable, statistics)
    q = benjamini_hochberg(np.array([p["p"] for p in probes]))
    associations = {c.name: tested.associations[c.name][0] for c in testable}
    use = {c.name: _use(scores, c, associations[c.name].positive, statistics) for c in testable}
    alone = {
        c.name: float(use[c.name]["effect"])
        for c, value in zip(testable, q, strict=True)
        if value <= rule.level and use_statement(use[c.name], FEATURES, role, rule, c.selected_from)["value"]
    }
    beside = besides(
        scores, testable, alone, associations, statistics, threshold=EFFECT_THRESHOLD[role], rule=rule
    )
    return [
        (
            concept,
            Measurements(
                association=associations[concept.name],
                q_association=tested.q[concept.name],
                association_source=tested.associations[concept.name][1],
                probe=probe,
                q=float(value),
                encoded=bool(value <= rule.level),
                use={FEATURES: use[concept.name]},
                extent=NO_EXTENT,
                weights={},
                beside=beside.get(concept.name, {}),
            ),
        )
        for concept, probe, value in zip(testable, probes, q, strict=True)
    ]


def _probe(scores: LinearScores, concepts: Sequence[Concept], statistics: Statistics) -> list[Record]:
    """Availability of each concept, as `over_layers` gives it, by a probe and by the difference of means.

    The p value is twice the smaller one of the two (Bonferroni): where features follow one another, the null
    of the second one has a long tail, so that no common null serves both.
    """
    settings = ProbeSettings(
        n_permutations=statistics.n_permutations, n_bootstrap=statistics.n_bootstrap, seed=statistics.seed
    )
    values = np.column_stack([c.values for c in concepts])
    labels, groups = scores.labels, np.unique(scores.groups, return_inverse=True)[1]
    folds = make_folds(labels, groups, values, settings.n_folds, settings.seed)
    permutations = Permutations(values, labels, groups, settings.n_permutations, settings.seed)
    table = availability(
        scores.features, concepts, labels, groups, folds, settings=settings, permutations=permutations
    ).table
    rows = table.rename(columns={"low": "auroc_low", "high": "auroc_high"}).to_dict("records")
    probes = []
    for k, row in enumerate(rows):
        by_means = means_p(scores.features, values[:, k], labels, permutations, k)
        p = float(np.fmin(1.0, 2 * np.fmin(row["p"], by_means)))
        told = {"p_probe": row["p"], "p_means": by_means}
        probes.append({"rows": [{**row, "layer": FEATURES}], "p": p, "layer": FEATURES, **told})
    return probes


def _use(scores: LinearScores, concept: Concept, positive: int, statistics: Statistics) -> Record:
    """Effect of taking a concept's pattern out of the features: carriers and others moved together.

    A linear head turns the pattern, the difference of means within the classes, into the difference of its
    margins, so that the effect is known without a filter that reads the concept from features. In networks a
    filter is needed, and where features are nearly as many as samples, it reads, and takes out, a part alone.
    """
    values, labels, margins = concept.values, scores.labels, scores.margin(positive)
    is_known = np.isfinite(values)
    both = [c for c in np.unique(labels) if len(np.unique(values[is_known & (labels == c)])) == 2]
    rows = np.flatnonzero(is_known & np.isin(labels, both))
    pattern = class_pattern(scores.features[rows], values[rows], labels[rows])
    logits = scores.heads.logits(scores.features[rows] - np.outer(values[rows] - 0.5, pattern), rows)
    samples = UseSamples(values, labels, scores.groups, margins, np.zeros(len(values), np.int64), positive)

    def result(edited: Floats) -> UseResult:
        return use_result(samples, rows, edited, n_bootstrap=statistics.n_bootstrap, seed=statistics.seed)

    gap, edit = result(np.zeros(len(rows))), result(scores.margin_of(logits, positive))
    return asdict(replace(edit, effect=gap.effect, interval=gap.interval, p=gap.p))


def class_pattern(features: Floats, concept: Floats, labels: Ints) -> Floats:
    """Difference (d,) of the means of carriers and others, averaged over classes that have both."""
    differences = [
        features[(labels == c) & (concept == 1)].mean(axis=0)
        - features[(labels == c) & (concept == 0)].mean(axis=0)
        for c in np.unique(labels)
    ]
    return np.asarray(np.mean(differences, axis=0))


def _with_both(finding: FindingRecord, probe: JSON, level: float) -> FindingRecord:
    """A finding with the p values of both tests of what is encoded, and what it means if they differ."""
    both = {key: probe[key] for key in ("p_probe", "p_means")}
    finding = replace(finding, encoded={**finding.encoded, **both})
    if not finding.encoded["value"] or probe["p_probe"] <= level:
        return finding
    area = finding.encoded["auroc"]
    text = (
        f"the means of carriers and others differ (p {probe['p_means']:.2g}), by too little for a probe to "
        f"tell other patients' carriers by it (AUROC {area:.2f})"
    )
    return replace(finding, reason=f"{finding.reason}; {text}")


def _reworded(finding: FindingRecord) -> FindingRecord:
    """The same in words for features; no sample is affected more than others, so that none is named."""
    reason = finding.reason
    for network, features in _WORDS.items():
        reason = reason.replace(network, features)
    return replace(finding, reason=reason, samples={})


def _doubts(scores: LinearScores, known: Mapping[str, float | None]) -> list[str]:
    """What a head's performance says of whether it belongs to these features."""
    area = known["auroc"]
    if scores.heads.fitted_on or area is None or area >= 0.5:
        return []
    return [
        f"the given head does worse than chance (AUROC {area:.2f}): are its classes in label order, and are "
        "these the features that it takes (standardised, normalised, of this encoder)?"
    ]
