"""Subgroups of an audit: how well the network does in each part of each column, and of each two columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from shortcutscope.audit.context import ExamineSettings
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.data.manifests.columns import ROLES
from shortcutscope.data.properties.names import measured_source
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import read_object
from shortcutscope.options import Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.partitions import is_the_label
from shortcutscope.probes.reading import Entries, entries, level_text
from shortcutscope.processes import is_main
from shortcutscope.scan.plan import ADDED_COLUMNS
from shortcutscope.scan.reading import Scan
from shortcutscope.stats.operating import Operating
from shortcutscope.stats.subgroups import Figure, Part, Scored, auroc_influence
from shortcutscope.stats.testing import benjamini_hochberg
from shortcutscope.types import JSON, Floats, Ints, Record
from shortcutscope.versions import SUBGROUPS

FILE = "subgroups.json"
#: Levels of a column of words or whole numbers; of others the thirds are taken.
MOST_LEVELS = 12
#: Columns of which each two are crossed, and levels that they may have.
MOST_CROSSED, MOST_CROSSED_LEVELS = 8, 6
#: Classes that are measured against the others, where no class is said.
MOST_CLASSES = 10
DELTAS = ("delta_auroc", "delta_tpr", "delta_fpr")
FACTS = ("group", "positive", "samples", "patients", "events", "event_patients")
FIGURES = ("auroc", "sensitivity", "specificity", "calibration", "slope", *DELTAS)


@dataclass(frozen=True, eq=False)
class Parting:
    """How a column, or two, part the samples.

    Attributes
    ----------
    columns
        One name, or two.
    levels
        What each part is called.
    codes
        ``(N,)`` number of the part, -1 where it is unknown.
    """

    columns: tuple[str, ...]
    levels: tuple[str, ...]
    codes: Ints

    def __and__(self, other: Parting) -> Parting:
        """Each part of one crossed with each of the other."""
        is_known = (self.codes >= 0) & (other.codes >= 0)
        codes = np.where(is_known, self.codes * len(other.levels) + other.codes, -1)
        levels = tuple(f"{a}, {b}" for a in self.levels for b in other.levels)
        return Parting((*self.columns, *other.columns), levels, codes)


def measure_subgroups(
    scanned: Scan, concepts: Sequence[Concept], classes: Sequence[str], statistics: Statistics
) -> Record:
    """Performance in every part of the columns, as ``subgroups.json`` keeps it.

    Parameters
    ----------
    scanned
        The audited samples with their scores and columns.
    concepts
        What was tested, in the order in which columns are crossed.
    classes
        Names in label order; may be empty.
    statistics
        Resamples, seed, class, and operating point.
    """
    samples = scanned.samples
    labels = samples["label"].to_numpy(np.int64)
    patients = np.unique(samples["group"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    single = partings(samples, concepts, classes)
    crossed = list(_crossed(single))
    operating = Operating.of(statistics.operating)
    positives = _positives(labels, statistics.positive)
    points, rows = [], []
    for positive in positives:
        events, scores = labels == positive, log_odds(scanned.logits, scanned.task, positive)
        scored = Scored(
            events,
            scores,
            patients,
            operating.threshold(events, scores),
            statistics.n_bootstrap,
            statistics.seed,
        )
        points.append(_point(scored, positive, operating))
        for family in (single, crossed if len(positives) == 1 else []):
            rows += _ranked([row for one in family for row in _rows(scored, one, positive)])
    return {
        "format": SUBGROUPS,
        "operating": points,
        "groups": rows,
        "notes": _notes(single, crossed, positives, labels),
    }


def subgroups_of(
    scanned: Scan,
    concepts: Sequence[Concept],
    findings: Sequence[FindingRecord],
    classes: Sequence[str] | None,
    settings: ExamineSettings,
) -> Record:
    """The same, with the concepts in the order of their findings; empty but in the main process."""
    if not is_main():
        return {}
    order = {finding.name: k for k, finding in enumerate(findings)}
    ids = scanned.samples["sample_id"]
    ranked = [c.aligned_to(ids) for c in sorted(concepts, key=lambda c: order.get(c.name, len(order)))]
    statistics = Statistics(
        n_bootstrap=settings.n_bootstrap,
        seed=settings.seed,
        positive=settings.positive,
        operating=settings.operating,
    )
    return measure_subgroups(scanned, ranked, classes or (), statistics)


def log_odds(logits: Floats, task: str, positive: int) -> Floats:
    """``(N,)`` log odds of a class by the network's own probabilities."""
    wide = np.asarray(logits, np.float64)
    if task == "binary":
        return wide[:, 0] if positive == 1 else -wide[:, 0]
    if task == "multilabel":
        return wide[:, positive]
    return np.asarray(wide[:, positive] - logsumexp(np.delete(wide, positive, axis=1), axis=1), np.float64)


def partings(
    samples: pd.DataFrame, concepts: Sequence[Concept], classes: Sequence[str] | None = None
) -> list[Parting]:
    """The columns that are looked at: those of the metadata, and the concepts that come from elsewhere.

    Columns that were measured count where one of their concepts was tested. First come the columns of
    concepts, in their order.
    """
    read_from = [c.reading.column for c in concepts if c.reading is not None and c.reading.column in samples]
    roles = {*ROLES, *ADDED_COLUMNS}
    unasked = [c for c in samples.columns if c not in roles and measured_source(c) is None]
    parts = [_of_concept(c) for c in concepts if c.reading is None or c.reading.column not in samples]
    for column in dict.fromkeys([*read_from, *unasked]):
        if is_the_label(samples, column, classes) is None:
            parts += _of_column(samples[column], column)
    order = {name: k for k, name in enumerate(_names(concepts))}
    return sorted(parts, key=lambda part: order.get(part.columns[0], len(order)))


def _names(concepts: Sequence[Concept]) -> list[str]:
    names = [c.name if c.reading is None else c.reading.column for c in concepts]
    return list(dict.fromkeys(names))


def _of_concept(concept: Concept) -> Parting:
    codes = np.where(concept.known, np.nan_to_num(concept.values), -1).astype(np.int64)
    return Parting((concept.name,), (f"without {concept.name}", f"with {concept.name}"), codes)


def _of_column(series: pd.Series, column: str) -> list[Parting]:
    """Its levels, or the thirds of numbers and dates; nothing of ids, and of what cannot be read."""
    try:
        content = entries(series, column)
    except InputError:
        return []
    levels = content.levels
    if len(levels) < 2:
        return []
    numbers = np.array([level for level in levels if not isinstance(level, str)], np.float64)
    if content.kind == "words" or (len(levels) <= MOST_LEVELS and (numbers == np.round(numbers)).all()):
        if len(levels) > MOST_LEVELS or len(levels) == content.known.sum() > 2:
            return []
        codes = np.searchsorted(numbers, content.values) if len(numbers) else content.values
        texts = tuple(f"{column}={level_text(level, content.kind)}" for level in levels)
        return [Parting((column,), texts, _coded(content, codes))]
    return _thirds(content, column)


def _thirds(content: Entries, column: str) -> list[Parting]:
    is_known = content.values[content.known]
    if len(np.unique(is_known)) == len(is_known) > 2 and (np.diff(np.sort(is_known)) == 1).all():
        return []  # numbers the samples
    cuts = sorted({float(is_known[is_known <= q].max()) for q in np.quantile(is_known, [1 / 3, 2 / 3])})
    cuts = [cut for cut in cuts if cut < is_known.max()]
    if not cuts:
        return []
    low, *more = [_cut_text(cut, content) for cut in cuts]
    texts = [f"{column} <= {low}", *(f"{column} > {low} to {high}" for high in more)]
    texts.append(f"{column} > {more[-1] if more else low}")
    return [Parting((column,), tuple(texts), _coded(content, np.searchsorted(cuts, content.values)))]


def _cut_text(cut: float, content: Entries) -> str:
    short = content.kind == "numbers" and abs(cut) < 10_000 and cut != round(cut)
    return f"{cut:.4g}" if short else level_text(cut, content.kind)


def _coded(content: Entries, codes: Floats | Ints) -> Ints:
    return np.where(content.known, np.nan_to_num(codes), -1).astype(np.int64)


def _crossed(single: Sequence[Parting]) -> Iterator[Parting]:
    few = [part for part in single if len(part.levels) <= MOST_CROSSED_LEVELS][:MOST_CROSSED]
    for one, other in combinations(few, 2):
        yield one & other


def _positives(labels: Ints, given: int | None) -> list[int]:
    values, counts = np.unique(labels, return_counts=True)
    if given is not None:
        return [given]
    if len(values) == 2:
        return [int(values[1])]
    frequent = values[np.argsort(-counts, kind="stable")][:MOST_CLASSES]
    return sorted(int(value) for value in frequent)


def _point(scored: Scored, positive: int, operating: Operating) -> Record:
    """Where samples are called positive, why, and how the network does there as a whole."""
    called = scored.scores >= scored.threshold
    return {
        "positive": positive,
        "threshold": float(1 / (1 + np.exp(-scored.threshold))),
        "source": str(operating),
        "on_these_data": operating.on_these_data,
        "auroc": auroc_influence(scored.events, scored.scores)[0],
        "sensitivity": float(called[scored.events].mean()),
        "specificity": float((~called[~scored.events]).mean()),
    }


def _rows(scored: Scored, parting: Parting, positive: int) -> Iterator[Record]:
    if not (parting.codes >= 0).any():
        return
    for k, part in enumerate(scored.parts(parting.codes)):
        if part is not None:
            named = {"columns": list(parting.columns), "group": parting.levels[k], "level": k}
            yield {**named, "positive": positive, **_counts(part)}


def _counts(part: Part) -> Record:
    figures = {name: asdict(figure) for name, figure in part.figures.items()}
    return {
        "samples": part.samples,
        "patients": part.patients,
        "events": part.events,
        "event_patients": part.event_patients,
        **figures,
    }


def _ranked(rows: list[Record]) -> list[Record]:
    """With the q values of their differences, the smallest first."""
    p = np.array([[np.nan if row[d]["p"] is None else row[d]["p"] for d in DELTAS] for row in rows], float)
    q = benjamini_hochberg(p.reshape(len(rows), len(DELTAS)))
    for row, values in zip(rows, q, strict=True):
        for delta, value in zip(DELTAS, values, strict=True):
            row[delta]["q"] = None if np.isnan(value) else float(value)

    def order(row: Record) -> tuple[float, float]:
        of = [row[d] for d in DELTAS if row[d]["q"] is not None]
        worst = max((abs(one["value"]) for one in of), default=0.0)
        return min((one["q"] for one in of), default=2.0), -worst

    return sorted(rows, key=order)


def _notes(
    single: Sequence[Parting], crossed: Sequence[Parting], positives: Sequence[int], labels: Ints
) -> list[str]:
    notes = []
    if len(positives) > 1:
        notes.append("each class is measured against all others, and columns are not crossed")
        if len(positives) < len(np.unique(labels)):
            notes.append(f"of the classes the {len(positives)} that are most frequent are measured")
    elif len(crossed) < len(single) * (len(single) - 1) // 2:
        which = f"the first {MOST_CROSSED} columns of up to {MOST_CROSSED_LEVELS} levels"
        notes.append(f"each two of {which} are crossed")
    return notes


def read_subgroups(run: Path) -> Record:
    """What ``subgroups.json`` of a run holds.

    Raises
    ------
    InputError
        When there is none, or it was written in another format.
    """
    if not (run / FILE).exists():
        raise InputError(f"{run} holds no {FILE}: run the same audit again, finished stages are kept")
    stored = read_object(run / FILE)
    if stored.get("format") != SUBGROUPS:
        raise InputError(
            f"{run / FILE} has format {stored.get('format')!r}, and this version reads {SUBGROUPS}: run the "
            "same audit again"
        )
    return stored


def subgroup_frame(stored: JSON) -> pd.DataFrame:
    """A row a group, as `AuditRecord.subgroups` gives it."""
    with intact(FILE, "a list of groups", "run the same audit again, which writes it anew"):
        return pd.DataFrame([_flat(row) for row in stored["groups"]], columns=list(_flat(_NOTHING)))


def _flat(row: Record) -> Record:
    flat: Record = {"columns": " x ".join(row["columns"]), **{name: row[name] for name in FACTS}}
    for name in FIGURES:
        figure = row[name]
        flat |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
        flat[f"{name}_n"] = figure["n"]
        if name in DELTAS:
            flat |= {f"{name}_p": figure["p"], f"{name}_q": figure["q"]}
    return flat


_NOTHING: Record = {
    "columns": [],
    **dict.fromkeys(FACTS),
    **{name: {**asdict(Figure(None)), "q": None} for name in FIGURES},
}
