"""The audit of embeddings from top to bottom: read, match, settle what is tested, examine each encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shortcutscope._version import __version__
from shortcutscope.allowed import check_options
from shortcutscope.audit.associations import NO_ASSOCIATION, association_if_any
from shortcutscope.audit.audited_data import (
    AuditedData,
    ConceptRequest,
    TrainingData,
    audited_data,
    resolve_concepts,
)
from shortcutscope.audit.discovery import screened_columns
from shortcutscope.data.features import Features, duplicates
from shortcutscope.data.manifests.columns import Roles
from shortcutscope.data.splits import assert_splits_apart
from shortcutscope.embeddings.before_after import corrected_features
from shortcutscope.embeddings.corrections import CORRECTIONS
from shortcutscope.embeddings.encoder import EncoderRecord, TestedConcepts, examine_encoder
from shortcutscope.embeddings.heads import FoldHeads, LinearHead, fit_heads, given_head, head_of_training
from shortcutscope.embeddings.result import EmbeddingsAuditRecord, correction_frame
from shortcutscope.embeddings.scores import LinearScores
from shortcutscope.embeddings.table import Frame, LabelledTable, labelled_table, matched, own_columns
from shortcutscope.errors import InputError
from shortcutscope.options import Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.crossfit import make_folds
from shortcutscope.probes.usage import EFFECT_THRESHOLD
from shortcutscope.probes.verdict import VerdictRule, untestable
from shortcutscope.stats.testing import benjamini_hochberg
from shortcutscope.types import Floats, Record

#: Name of an encoder that is given without one.
ENCODER = "encoder"
#: Folds of a head that is fitted here.
HEAD_FOLDS = 4


@dataclass(frozen=True)
class Correcting:
    """What is tried against what was found.

    Attributes
    ----------
    methods
        Of ``"leace"``, ``"mean shift"`` and ``"location and scale"``; none for no before and after.
    k
        Neighbours of the robustness index.

    Raises
    ------
    InputError
        Another method, or no neighbours.

    Examples
    --------
    >>> ss.Correcting(methods=["leace"]).k
    10
    """

    methods: Sequence[str] = tuple(CORRECTIONS)
    k: int = 10

    def __post_init__(self) -> None:
        check_options({"k": self.k})
        if isinstance(self.methods, str):
            raise InputError(f"methods={self.methods!r} is one word; give a list: [{self.methods!r}]")
        unknown = [name for name in self.methods if name not in CORRECTIONS]
        if unknown:
            raise InputError(f"no correction {unknown[0]!r}; there are {', '.join(CORRECTIONS)}")


def audit_embeddings(
    features: object,
    frame: Frame | None = None,
    *,
    label: str = "label",
    sample_id: str | None = None,
    group: str | None = None,
    concepts: Sequence[str | Concept] | str | Concept | None = None,
    present: Mapping[str, Any] | None = None,
    train: Frame | TrainingData | None = None,
    head: object = None,
    statistics: Statistics | None = None,
    correcting: Correcting | None = None,
) -> EmbeddingsAuditRecord:
    """Audit the features of an encoder for shortcuts, or those of several side by side.

    What an audit asks of every layer is asked of the features: which concepts they encode, whether those go
    with the label, and whether a linear head uses them; then what corrections would change.

    Parameters
    ----------
    features
        Array (N, d), DataFrame, or npz, Parquet or npy file, see `Features.of`; or a mapping of encoders'
        names to such.
    frame
        Labels, patients and columns of the samples: a DataFrame, or a CSV, TSV or Parquet file. By default
        what the features' own file holds. Rows are matched by sample_id where both have it, else by position.
        Rows whose split is ``train`` are not audited when there are others.
    label, sample_id, group
        Its columns, as in `ImageTable.from_frame`.
    concepts, present
        As in `shortcutscope.audit`; by default every column that can be a concept.
    train
        The training samples of the head, for the association; or what else is known of them.
    head
        Linear head: (weight, bias), an npz file, an ``nn.Linear`` or a fitted scikit-learn classifier, see
        `LinearHead.of`; of several encoders a mapping by name. Where none is given logistic regression is
        fitted: on the training rows of `frame` where there are some, else on the audited samples, each of
        which is scored by a head fitted on other patients.
    statistics
        Permutations, resamples, seed, and the class that effects refer to.
    correcting
        Which corrections are tried, and the neighbours of the robustness index.

    Returns
    -------
    EmbeddingsAudit

    Raises
    ------
    InputError
        Features, table or head that cannot be used, with the mend.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, site = rng.integers(0, 2, (2, 200))
    >>> x = rng.normal(size=(200, 16)) + y[:, None] * np.eye(16)[0] + 3 * site[:, None] * np.eye(16)[1]
    >>> found = audit_embeddings(x, pd.DataFrame({"label": y, "site": site}), present={"site": 1})
    >>> found["encoder"].findings[0].encoded["value"]
    True
    """
    statistics, correcting = statistics or Statistics(), correcting or Correcting()
    encoders = {name: Features.of(source, name) for name, source in _by_name(features).items()}
    heads = _heads_by_name(head, list(encoders))
    roles = Roles(label, sample_id, group, None)
    samples = labelled_table(own_columns(encoders) if frame is None else frame, roles)
    assert_splits_apart(samples.table.frame)
    audited = audited_data(samples.table, _training(train, samples, roles))
    tested, refused, screen = _tested(audited, ConceptRequest(concepts, present or {}, False), statistics)
    if statistics.positive is not None and statistics.positive not in audited.table.frame["label"].tolist():
        raise InputError(f"positive={statistics.positive}: no audited sample has that label")
    scored = {
        name: _scored(name, one, heads.get(name), samples, audited, statistics.seed)
        for name, one in encoders.items()
    }
    records: list[EncoderRecord] = []
    rows: list[Record] = []
    for name, (scores, notes) in scored.items():
        records.append(examine_encoder(name, scores, tested, statistics, audited.role, notes))
        if correcting.methods:
            corrected = corrected_features(
                scores,
                tested,
                statistics,
                methods=correcting.methods,
                encoded={f.name for f in records[-1].findings if f.encoded.get("value")},
                k=correcting.k,
            )
            rows += [{"encoder": name, **row} for row in corrected]
    run = _run(audited, statistics, correcting, encoders)
    run |= {"refused_columns": refused, **({"metadata": screen} if screen else {})}
    return EmbeddingsAuditRecord(tuple(records), correction_frame(rows), run)


def _by_name(features: object) -> dict[str, object]:
    if isinstance(features, Mapping):
        if not features:
            raise InputError("features is empty: give at least one encoder")
        return {str(name): source for name, source in features.items()}
    if isinstance(features, str | Path):
        return {Path(features).stem: features}
    return {ENCODER: features}


def _heads_by_name(head: object, names: Sequence[str]) -> dict[str, LinearHead]:
    """The given heads, each by its encoder."""
    if head is None:
        return {}
    if isinstance(head, Mapping) and set(map(str, head)) <= set(names):
        return {str(name): LinearHead.of(one) for name, one in head.items()}
    if len(names) > 1:
        raise InputError(
            f"there are {len(names)} encoders: say whose head it is, head={{{names[0]!r}: ...}}; those "
            "without one get a head that is fitted here"
        )
    return {names[0]: LinearHead.of(head)}


def _training(train: Frame | TrainingData | None, samples: LabelledTable, roles: Roles) -> TrainingData:
    if train is None or isinstance(train, TrainingData):
        return TrainingData.of(train)
    return TrainingData.of(labelled_table(train, roles, classes=samples.table.classes).table)


def _tested(
    audited: AuditedData, request: ConceptRequest, statistics: Statistics
) -> tuple[TestedConcepts, dict[str, str], Record | None]:
    """What is asked of every encoder, columns that are not tested and why, and the screen of columns."""
    frame, rule = audited.table.frame, VerdictRule()
    every = request.concepts is None
    columns, unlikely, screen = screened_columns(audited, seed=statistics.seed) if every else ([], {}, None)
    concepts_tested, refused = resolve_concepts(audited, request, columns=columns, may_be_none=True)
    if not concepts_tested:
        columns_refused = unlikely | refused
        why = f": the columns were refused: {columns_refused}" if columns_refused else ""
        raise InputError(
            f"there is no concept to test{why}. Give a column per suspected shortcut, concepts=[...], or a "
            "Concept"
        )
    aligned = [c.aligned_to(frame["sample_id"]) for c in concepts_tested]
    labels, groups = frame["label"].to_numpy().astype(np.int64), frame["group"].to_numpy()
    reasons = {c.name: untestable(c.values, labels, groups, rule) for c in aligned}
    associations = {}
    for concept in concepts_tested:
        found = association_if_any(
            concept,
            audited,
            frame,
            positive=statistics.positive,
            n_bootstrap=statistics.n_bootstrap,
            seed=statistics.seed,
        )
        if found is not None:
            associations[concept.name] = found
        elif reasons[concept.name] is None:
            reasons[concept.name] = NO_ASSOCIATION
    names = [name for name in associations if reasons[name] is None]
    q = benjamini_hochberg(np.array([associations[name][0].p for name in names]))
    tested = TestedConcepts(
        aligned, reasons, associations, dict(zip(names, map(float, q), strict=True)), rule
    )
    return tested, unlikely | refused, screen.to_dict() if screen else None


def _scored(
    name: str,
    features: Features,
    head: LinearHead | None,
    samples: LabelledTable,
    audited: AuditedData,
    seed: int,
) -> tuple[LinearScores, list[str]]:
    """The audited samples' features with a head, and what is to be said of them."""
    frame = audited.table.frame
    rows, order = matched(features, samples, audited.table, name)
    values = features.values[rows]
    _require_variation(values, name)
    labels = frame["label"].to_numpy().astype(np.int64)
    notes = [*features.notes, order]
    twice = duplicates(values, frame["group"].to_numpy())
    if twice:
        notes.append(
            f"{twice} samples have exactly the features of another patient's sample: if these are copies of "
            "one image, folds by patient do not keep them apart"
        )
    if head is not None:
        head.require_fit(values.shape[1], labels, name)
        if audited.table.classes:
            classes = ", ".join(audited.table.classes)
            notes.append(
                f"the head's classes are taken for {classes}, in this order; where it is another one, give "
                "class numbers as labels"
            )
        heads = given_head(head, len(values))
    else:
        heads = _fitted(name, features, values, samples, audited, seed)
    return LinearScores.of(values, heads, frame), notes


def _fitted(
    name: str, features: Features, values: Floats, samples: LabelledTable, audited: AuditedData, seed: int
) -> FoldHeads:
    """A head that is fitted here: on the training samples where there are some."""
    if audited.reference is None:
        frame = audited.table.frame
        labels = frame["label"].to_numpy().astype(np.int64)
        return fit_heads(
            values, labels, make_folds(labels, frame["group"].to_numpy(), None, HEAD_FOLDS, seed)
        )
    frame = audited.reference.frame
    inside = frame["sample_id"].isin(set(samples.table.frame["sample_id"])).all()
    by_id = features.ids is not None and frame["sample_id"].isin(set(features.ids)).all()
    if not (inside or by_id):
        raise InputError(
            f"encoder {name!r} has no features of the training samples: a head that is fitted here on the "
            "audited samples would not have learnt from them. Give the head that was trained, features of "
            "the training samples, too (the table with a column split), or leave the training samples out"
        )
    place = samples if inside else LabelledTable(audited.reference, has_ids=True)
    training = features.values[matched(features, place, audited.reference, name)[0]]
    labels = frame["label"].to_numpy().astype(np.int64)
    audited_labels = audited.table.frame["label"].to_numpy()
    if not set(audited_labels.tolist()) <= set(labels.tolist()):
        raise InputError("the training samples lack classes of the audited ones: no head can learn them")
    folds = make_folds(labels, frame["group"].to_numpy(), None, HEAD_FOLDS, seed)
    return head_of_training(training, labels, folds, len(values))


def _require_variation(values: Floats, name: str) -> None:
    if (values == values[:1]).all():
        raise InputError(f"encoder {name!r}: the features of all audited samples are the same")


def _run(
    audited: AuditedData, statistics: Statistics, correcting: Correcting, encoders: Mapping[str, Features]
) -> Record:
    """What the result rests on."""
    table = audited.table
    return {
        "version": __version__,
        "data": {
            "fingerprint": table.fingerprint(),
            "n_samples": len(table),
            "n_groups": int(table.frame["group"].nunique()) if table.has_groups else None,
            "classes": list(table.classes or []),
        },
        "features": {name: features.fingerprint() for name, features in encoders.items()},
        "settings": {
            "n_permutations": statistics.n_permutations,
            "n_bootstrap": statistics.n_bootstrap,
            "seed": statistics.seed,
            "positive": statistics.positive,
            "k": correcting.k,
            "methods": list(correcting.methods),
            "use_threshold": EFFECT_THRESHOLD[audited.role],
            "role": audited.role,
        },
        "assumptions": [_of_samples(text) for text in audited.assumptions],
        "warnings": [_of_samples(text) for text in (*audited.warnings, *table.notes)],
    }


def _of_samples(text: str) -> str:
    """What an audit says of images."""
    return text.replace("images", "samples").replace("image", "sample")
