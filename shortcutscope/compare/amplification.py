"""Amplification: how a network does against a shortcut when training data of growing correlation teach it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.compare.estimate import Estimate
from shortcutscope.compare.performance import ComparedSamples, NetworkScores, logits_of, performance
from shortcutscope.compare.setup import ComparisonSetup, comparison_setup
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.erm import erm
from shortcutscope.debias.options import Retraining
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.scores import of_initial, reading, trained_head
from shortcutscope.debias.training.fit import Training
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError
from shortcutscope.files import json_file, stored_result, to_json, write_json
from shortcutscope.models.heads.head import Output
from shortcutscope.options import Running, Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.types import JSON, Floats, Ints, Record

__all__ = ["CORRELATIONS", "AmplificationRecord", "amplification_curve", "resampled_rows"]

#: From no correlation to a full one.
CORRELATIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
#: Training samples of a class at every correlation, at least: with fewer nothing is learnt.
FEWEST = 20
FORMAT, FILE = 1, "amplification.json"
COLUMNS = ("correlation", "metric", "value", "low", "high", "note")


@dataclass(frozen=True, repr=False, eq=False)
class AmplificationRecord:
    """How networks do that were trained at growing correlations of a concept with the label.

    Attributes
    ----------
    concept
        Its name.
    frame
        One row per correlation and metric: ``value`` with its interval (``low``, ``high``; 95 %, by patient).
        ``conflicting_accuracy`` and ``aligned_accuracy`` are means over the classes of the samples in which
        the concept goes against the label, and with it; the others are those of a comparison.
    settings
        What was asked for, and how many samples of each group every table had.
    notes
        Choices that a reader must know.
    """

    concept: str
    frame: pd.DataFrame = field(repr=False)
    settings: JSON = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """A copy of `frame`."""
        return self.frame.copy()

    def save(self, path: str | Path) -> Path:
        """Write ``amplification.json``, whole or not at all, to a file or into a folder."""
        goal = json_file(path, FILE)
        content = {"format": FORMAT, "concept": self.concept, "rows": self.frame.to_dict("records")}
        write_json(goal, {**content, "settings": dict(self.settings), "notes": list(self.notes)})
        return goal

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read a curve from its file or folder.

        Raises
        ------
        InputError
            When there is none, or it is not one of this version.
        """
        what = "an amplification curve"
        with stored_result(path, FILE, format=FORMAT, what=what, mend="draw it again") as content:
            frame = _tidy(content["rows"])
            return cls(content["concept"], frame, content["settings"], tuple(content["notes"]))

    def __repr__(self) -> str:
        rows = self.frame[self.frame["metric"] == "conflicting_accuracy"]
        lines = [f"Amplification of {self.concept!r}: accuracy where it goes against the label"]
        for row in rows.itertuples():
            lines.append(
                f"  {row.correlation:.0%} correlation: {row.value:.3f} ({row.low:.3f} to {row.high:.3f})"
            )
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def amplification_curve(
    model: nn.Module,
    train: ImageTable,
    test: ImageTable,
    *,
    concept: str | Concept | FindingRecord | None = None,
    present: Mapping[str, Any] | None = None,
    correlations: Sequence[float] = CORRELATIONS,
    training: Training | Retraining | None = None,
    head: Output = None,
    statistics: Statistics | None = None,
    running: Running | None = None,
    out: str | Path | None = None,
) -> AmplificationRecord:
    """Train a network at growing correlations of a concept with the label, and judge each where it conflicts.

    Tables of one size are drawn from the training samples, without replacement, in which the concept is in a
    share of the class that it goes with, and in the rest of the others; the classes are as frequent as in all
    samples. Each network is trained on one of them by cross-entropy, in as many steps.

    Parameters
    ----------
    model
        Where trainings begin, or with ``Retraining(start="fresh")`` the architecture. It is not changed.
    train
        Training samples of which the concept is known.
    test
        Samples to judge on, of other patients, best with the concept in half of every class.
    concept
        A column, a finding of an audit, or a Concept by sample id; by default the only column of 0 and 1.
    present
        Column to the value that means that the artifact is there, where its words do not tell.
    correlations
        Shares of the class that carry the concept, from .5 (no correlation) to 1.
    training
        Schedule and seed; or with these, where trainings begin. From the model, what it has learnt of the
        shortcut already is part of every point; new weights show what the data teach.
    head
        Which scores are trained, as in `shortcutscope.audit`.
    statistics
        Resamples of the patients, the seed, and the class that the concept goes with.
    running
        Batch size and bars.
    out
        Folder of ``amplification.json`` and of the trainings, which go on where they were interrupted.

    Returns
    -------
    Amplification

    Raises
    ------
    InputError
        Before any training: for a group of label and concept that has too few samples, with the numbers;
        samples or patients on both sides; correlations outside of .5 to 1.
    """
    statistics, running = statistics or Statistics(), running or Running()
    running.require_only("an amplification curve", "batch_size", "progress")
    plan = training if isinstance(training, Retraining) else Retraining(training or Training())
    finding = concept if isinstance(concept, FindingRecord) else None
    setup = comparison_setup(
        test, None if isinstance(concept, FindingRecord) else concept, finding,
        train=train, positive=statistics.positive, others=False, present=present,
    )  # fmt: skip
    learnt, rows = _drawn(setup, correlations, plan.training.seed)
    folder = None if out is None else Path(out)
    if folder is not None:
        require_writable(folder)
    read, notes = trained_head(model, [learnt], head, None)
    samples = _judged_samples(setup, statistics)
    records: list[Record] = []
    for correlation, chosen in rows.items():
        problem = DebiasProblem(
            model=model,
            train=learnt.take(chosen),
            start=plan.start,
            initial=of_initial(plan.initial, model, read),
            training=plan.training,
            seed=plan.training.seed,
            out=None if folder is None else folder / "amplification" / f"{correlation:.2f}",
            progress=running.progress,
        )
        with reading(model, read):
            network = erm(problem).model
        table = setup.tables[setup.main]
        logits = logits_of(network, table, batch_size=running.batch_size)
        scores = NetworkScores.of(logits, read.read_task, setup.positive)
        records += [_row(correlation, e) for e in _measured(samples, scores)]
    made = AmplificationRecord(
        setup.name, _tidy(to_json(records)), _settings(setup, learnt, rows, plan), (*setup.notes, *notes)
    )
    if folder is not None:
        made.save(folder)
    return made


def resampled_rows(
    labels: Ints,
    with_concept: Floats,
    correlation: float,
    size: float,
    positive: int,
    against: bool,
    seed: int,
) -> Ints:
    """Rows of a table in which the concept is associated with the label so much.

    Parameters
    ----------
    labels, with_concept
        (N,) class, and the concept: 1, 0, NaN for rows that are not drawn.
    correlation
        Share of the positive class with the concept, and of the others without it; the other way round
        `against`.
    size
        Rows of each class as a share of those that there are.
    seed
        Of the order in which rows are drawn: the same for all correlations, so that their tables share most
        rows.
    """
    rows = []
    for label in np.unique(labels):
        n = _size(labels, label, size)
        share = correlation if (label == positive) != against else 1 - correlation
        n_with = round(share * n)
        for value, wanted in ((1, n_with), (0, n - n_with)):
            there = np.flatnonzero((labels == label) & (with_concept == value))
            order = np.random.default_rng([seed, int(label), value]).permutation(there)
            rows.append(order[:wanted])
    return np.sort(np.concatenate(rows))


def _drawn(
    setup: ComparisonSetup, correlations: Sequence[float], seed: int
) -> tuple[ImageTable, dict[float, Ints]]:
    """The training samples, and for each correlation the rows of its table."""
    points = sorted({float(c) for c in correlations})
    if not points or not all(0.5 <= c <= 1 for c in points):
        raise InputError(f"correlations={list(correlations)}; give some shares from 0.5 to 1")
    train, concept = setup.train, setup.train_concept
    if train is None or concept is None:
        raise InputError(
            f"the training samples do not say which of them carry {setup.name!r}: give the column, or a "
            "Concept by sample id (finding.label(model, train) retrieves one)"
        )
    labels = train.frame["label"].to_numpy(np.int64)
    values = concept.aligned_to(train.frame["sample_id"]).values
    size = _largest(labels, values, points, setup.positive, setup.against)
    _require_enough(labels, values, points, size, setup)
    args = (size, setup.positive, setup.against, seed)
    return train, {c: resampled_rows(labels, values, c, *args) for c in points}


def _largest(labels: Ints, values: Floats, points: Sequence[float], positive: int, against: bool) -> float:
    """The largest share of every class that tables of all correlations can have."""
    shares = [1.0]
    for label in np.unique(labels):
        known = int((np.isfinite(values) & (labels == label)).sum())
        total = int((labels == label).sum())
        for c in points:
            with_concept = c if (label == positive) != against else 1 - c
            for value, share in ((1, with_concept), (0, 1 - with_concept)):
                there = int(((labels == label) & (values == value)).sum())
                shares.append(min(known, there / share if share > 0 else known) / total)
    return min(shares)


def _size(labels: Ints, label: int, size: float) -> int:
    # A hair more than a whole number must not become the next smaller one.
    return int(np.floor(size * int((labels == label).sum()) + 1e-9))


def _require_enough(
    labels: Ints, values: Floats, points: Sequence[float], size: float, setup: ComparisonSetup
) -> None:
    sizes = {int(label): _size(labels, label, size) for label in np.unique(labels)}
    label, least = min(sizes.items(), key=lambda item: item[1])
    if least >= FEWEST:
        return
    counts = {
        f"class {y} {'with' if t else 'without'} {setup.name}": int(((labels == y) & (values == t)).sum())
        for y in sizes
        for t in (1, 0)
    }

    def enough(lowest: float) -> bool:
        some = [c for c in points if c >= lowest]
        return _size(labels, label, _largest(labels, values, some, setup.positive, setup.against)) >= FEWEST

    rest = [c for c in points if enough(c)]
    there = ", ".join(f"{n} of {name}" for name, n in counts.items())
    instead = f", or correlations from {min(rest):g} on, for which there are enough" if rest else ""
    raise InputError(
        f"tables of all correlations from {points[0]:g} to {points[-1]:g} could have {least} samples of "
        f"class {label}, and {FEWEST} are needed; there are {there}. Give more samples of the "
        f"smallest of these groups{instead}"
    )


def _judged_samples(setup: ComparisonSetup, statistics: Statistics) -> ComparedSamples:
    table = setup.tables[setup.main]
    return ComparedSamples.of(
        "test", table, setup.concept[setup.main], setup.positive,
        against=setup.against, n=statistics.n_bootstrap, seed=statistics.seed,
    )  # fmt: skip


def _measured(samples: ComparedSamples, scores: NetworkScores) -> Iterator[Estimate]:
    """Accuracy with and against the correlation, and what a comparison says of the concept."""
    right = (scores.prediction == samples.labels).astype(np.float64)
    agrees = samples.aligned == samples.truth
    known = np.isfinite(samples.aligned)
    for name, within in (("conflicting_accuracy", known & ~agrees), ("aligned_accuracy", known & agrees)):

        def mean_of_classes(w: Floats, k: Any) -> Floats:
            classes = [samples.labels[k] == y for y in np.unique(samples.labels[k])]
            return np.mean(
                [w[:, c] @ right[k][c] / np.maximum(w[:, c].sum(1), 1e-12) for c in classes], axis=0
            )

        yield samples.estimate("concept", name, "high", mean_of_classes, within)
    wanted = ("robust_auroc", "balanced_auroc", "worst_group_accuracy")
    yield from (e for e in performance(samples, scores) if e.part == "concept" and e.metric in wanted)


def _row(correlation: float, estimate: Estimate) -> Record:
    low, high = estimate.interval
    return {
        "correlation": correlation, "metric": estimate.metric, "value": estimate.value,
        "low": low, "high": high, "note": estimate.note,
    }  # fmt: skip


def _settings(
    setup: ComparisonSetup, train: ImageTable, rows: Mapping[float, Ints], plan: Retraining
) -> Record:
    assert setup.train_concept is not None
    labels = train.frame["label"].to_numpy(np.int64)
    values = setup.train_concept.aligned_to(train.frame["sample_id"]).values
    groups = {
        f"{c:g}": {
            f"class {y} {'with' if t else 'without'} {setup.name}": int(
                ((labels[chosen] == y) & (values[chosen] == t)).sum()
            )
            for y in np.unique(labels)
            for t in (1, 0)
        }
        for c, chosen in rows.items()
    }
    training = plan.training
    return {
        "positive": setup.positive,
        "against": setup.against,
        "start": plan.start,
        "training": training.said() | {"epochs": training.epochs, "steps": training.steps},
        "seed": training.seed,
        "n_train": len(next(iter(rows.values()))),
        "groups": groups,
    }


def _tidy(rows: Sequence[JSON]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numeric = ["correlation", "value", "low", "high"]
    frame[numeric] = frame[numeric].astype(np.float64)
    return frame
