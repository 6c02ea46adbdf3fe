"""Which of many metadata columns go with the label, and what would a classifier score that saw no image?

Every column is screened, numbers, categories, dates and whether an entry is missing. What counts are
patients, not images: a column that belongs to the patient says the same of each of the patient's images, and
taking them for independent would make any column significant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from shortcutscope.data.manifests.columns import ROLES
from shortcutscope.data.splits import grouped_folds
from shortcutscope.errors import InputError
from shortcutscope.probes.reading import refuse_several
from shortcutscope.stats.metrics import auroc
from shortcutscope.stats.testing import permutation_p
from shortcutscope.types import Array, Floats, Ints, Record

#: Numbers with up to this many different values, all of them whole, are taken as categories.
MOST_LEVELS = 12
#: Levels that fewer patients have are pooled, unless they are the only ones.
FEWEST_IN_LEVEL = 5
#: Bins of numbers and dates, of like size.
BINS = 5
#: Share of a text column's entries that must read as dates.
DATE_SHARE = 0.95
DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y%m%d", "%d.%m.%Y", "%m/%d/%Y")
#: Permutations worked on at a time.
BLOCK = 250


@dataclass(frozen=True, eq=False)
class MetadataScreen:
    """Result of a screen of metadata columns.

    Attributes
    ----------
    columns
        One row per tested variable, what goes with the label most first: column, kind (``"numeric"``,
        ``"categorical"``, ``"date"``, ``"missing"``), n (patients), levels, mutual_information (nats, less
        what chance gives), cramers_v, auroc (of the class that the value points to most, NaN for
        categories), p, q.
    classifier
        Cross-validated scores of a classifier that sees the metadata alone, one row per split and one for
        all: split, n, accuracy, balanced_accuracy, auroc (NaN with one class), majority.
    skipped
        Column to the reason why it was not tested.
    """

    columns: pd.DataFrame
    classifier: pd.DataFrame
    skipped: dict[str, str]

    def found(self, level: float = 0.05) -> list[str]:
        """Columns with a q value up to `level`, strongest first."""
        return list(dict.fromkeys(self.columns.loc[self.columns["q"] <= level, "column"]))

    def to_dict(self) -> Record:
        """Rows as they stand in ``run.json``."""
        return {
            "columns": self.columns.to_dict("records"),
            "classifier": self.classifier.to_dict("records"),
            "skipped": self.skipped,
        }


@dataclass(frozen=True, eq=False)
class _Variable:
    """What is tested of a column: values as numbers, NaN for missing, one per unit."""

    column: str
    kind: str
    values: Floats
    blocks: Ints


def screen_metadata(
    frame: pd.DataFrame,
    *,
    columns: Sequence[str] | None = None,
    n_permutations: int = 1000,
    n_folds: int = 5,
    classify: bool = True,
    seed: int = 0,
) -> MetadataScreen:
    """Screen metadata columns for what goes with the label.

    A patient counts once per class it occurs in, with the mean of its numbers or its most frequent category
    there. The test is by permutation of mutual information, of numbers in five bins of like size, so that a
    relation of any form counts: of a column that belongs to the patient, the values of whole patients are
    exchanged. Q values are those of Benjamini and Yekutieli (2001), which hold however the columns depend on
    each other, as metadata do.

    Parameters
    ----------
    frame
        With the columns label, group and, optionally, split, as an image table's.
    columns
        Which to screen; by default all that have no role.
    n_permutations
        Per variable.
    n_folds
        Of the classifier; patients are kept together. Fewer where there are fewer patients in a class, and
        no classifier where there is one alone.
    classify
        Whether to fit the classifier.
    seed
        Of permutations, folds and classifier.

    Raises
    ------
    InputError
        For a missing column, or labels of one class only.

    Examples
    --------
    >>> screen = ss.screen_metadata(data.frame, columns=["tag", "coin"], n_permutations=100, classify=False)
    >>> sorted(screen.columns["column"])
    ['coin', 'tag']
    """
    names = [c for c in frame.columns if c not in ROLES] if columns is None else list(columns)
    missing = [c for c in ("label", "group", *names) if c not in frame.columns]
    if missing:
        raise InputError(f"there is no column {missing[0]!r}; the columns are {', '.join(frame.columns)}")
    labels = frame["label"].to_numpy().astype(np.int64)
    if len(np.unique(labels)) < 2:
        raise InputError(f"all samples have label {labels[0]}: nothing can go with it; give two classes")
    units = _Units.of(labels, frame["group"].to_numpy())
    skipped: dict[str, str] = {}
    variables = [v for c in names for v in _variables(frame[c], c, units, skipped)]
    rows = [_tested(v, units.labels, n_permutations, [seed, k]) for k, v in enumerate(variables)]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    if len(table):
        table["q"] = stats.false_discovery_control(table["p"], method="by")
    table = table.sort_values(["p", "mutual_information"], ascending=[True, False], kind="stable")
    scores = (
        _metadata_only(frame, units, variables, n_folds, seed) if classify and variables else _no_scores()
    )
    return MetadataScreen(table.reset_index(drop=True), scores, skipped)


_COLUMNS = ["column", "kind", "n", "levels", "mutual_information", "cramers_v", "auroc", "p", "q"]


@dataclass(frozen=True, eq=False)
class _Units:
    """A unit is a patient in a class.

    Attributes
    ----------
    of_row
        (N,) unit of each sample.
    labels, groups
        (U,) class code and patient code of each unit.
    """

    of_row: Ints
    labels: Ints
    groups: Ints

    @classmethod
    def of(cls, labels: Ints, groups: Array) -> _Units:
        pairs = np.column_stack(
            [np.unique(groups, return_inverse=True)[1], np.unique(labels, return_inverse=True)[1]]
        )
        unique, of_row = np.unique(pairs, axis=0, return_inverse=True)
        return cls(of_row.ravel().astype(np.int64), unique[:, 1], unique[:, 0])

    def __len__(self) -> int:
        return len(self.labels)


def _variables(
    series: pd.Series[Any], column: str, units: _Units, skipped: dict[str, str]
) -> Iterator[_Variable]:
    """The column itself, unless it says nothing, and whether its entries are missing."""
    try:
        refuse_several(series, column)
    except InputError as error:
        skipped[column] = str(error)
        return
    kind, values = _read(series)
    absent = np.isnan(values)
    if absent.any() and not absent.all():
        yield _variable(column, "missing", absent.astype(np.float64), units)
    levels = len(np.unique(values[~absent]))
    if levels < 2:
        skipped[column] = "one value only" if levels else "no value at all"
    elif kind == "categorical" and levels == (~absent).sum() > 2:
        skipped[column] = f"all {levels} entries differ: these are ids, not categories"
    else:
        yield _variable(column, kind, values, units)


def _variable(column: str, kind: str, values: Floats, units: _Units) -> _Variable:
    finite = ~np.isnan(values)
    table = pd.DataFrame({"unit": units.of_row[finite], "value": values[finite]})
    if kind in ("numeric", "date"):
        by_unit = table.groupby("unit")["value"].mean()
    else:
        counts = table.value_counts(sort=False).reset_index()
        first = counts.sort_values(["unit", "count", "value"], ascending=[True, False, True])
        by_unit = first.drop_duplicates("unit").set_index("unit")["value"]
    per_unit = by_unit.reindex(range(len(units))).to_numpy(np.float64)
    spread = pd.Series(values).groupby(units.groups[units.of_row]).nunique(dropna=False)
    belongs_to_patient = bool((spread == 1).all())
    return _Variable(
        column, kind, per_unit, units.groups if belongs_to_patient else np.arange(len(units), dtype=np.int64)
    )


def _read(series: pd.Series[Any]) -> tuple[str, Floats]:
    """Kind and values of a column as numbers: dates in days, categories as codes; NaN for missing."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return "categorical", _coded(series)
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return "date", _days(series)
    if pd.api.types.is_numeric_dtype(series.dtype):
        return _numeric(series.to_numpy(np.float64, na_value=np.nan))
    text = series.astype(object).where(series.notna(), None)
    text = text.map(lambda value: value.strip() or None if isinstance(value, str) else value)
    dates = _dates(text.dropna())
    if dates is not None:
        return "date", _days(dates.reindex(series.index))
    numbers = np.asarray(pd.to_numeric(text, errors="coerce"), np.float64)
    if np.count_nonzero(~np.isnan(numbers)) == int(text.notna().sum()):
        return _numeric(numbers)
    return "categorical", _coded(text)


def _numeric(values: Floats) -> tuple[str, Floats]:
    values = np.asarray(np.where(np.isfinite(values), values, np.nan), np.float64)
    finite = values[~np.isnan(values)]
    few = len(np.unique(finite)) <= MOST_LEVELS and bool((finite == np.round(finite)).all())
    return ("categorical" if few else "numeric"), values


def _dates(text: pd.Series[Any]) -> pd.Series[Any] | None:
    if not len(text) or not text.map(lambda value: isinstance(value, str)).all():
        return None
    for layout in DATE_FORMATS:
        dates = pd.to_datetime(text, format=layout, errors="coerce")
        if dates.notna().mean() >= DATE_SHARE:
            return dates
    return None


def _days(dates: pd.Series[Any]) -> Floats:
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
    days = (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    return np.asarray(days.to_numpy(np.float64), np.float64)


def _coded(series: pd.Series[Any]) -> Floats:
    codes = pd.factorize(series.map(str, na_action="ignore"), sort=True)[0].astype(np.float64)
    return np.where(codes < 0, np.nan, codes)


def _tested(variable: _Variable, labels: Ints, n_permutations: int, seed: Sequence[int]) -> list[Any]:
    finite = ~np.isnan(variable.values)
    values, y = variable.values[finite], labels[finite]
    codes = _bins(values) if variable.kind in ("numeric", "date") else _pooled(values)
    counts = _tables(codes[None], y)
    information = _information(counts)[0]
    null = np.concatenate(
        [
            _information(_tables(permuted, y))
            for permuted in _permuted(codes, variable.blocks[finite], n_permutations, seed)
        ]
    )
    p = float(permutation_p(information, null)) if codes.max() > 0 and len(np.unique(y)) > 1 else 1.0
    excess = max(0.0, float(information - null.mean()))
    return [
        variable.column,
        variable.kind,
        int(finite.sum()),
        int(codes.max()) + 1,
        excess,
        _cramers_v(counts[0]),
        _best_auroc(values, y) if variable.kind in ("numeric", "date") or codes.max() == 1 else np.nan,
        p,
        np.nan,
    ]


def _bins(values: Floats) -> Ints:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)[1].astype(np.int64)


def _pooled(values: Floats) -> Ints:
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    rare = counts < FEWEST_IN_LEVEL
    if rare.sum() > 1:
        codes = np.where(rare[codes], len(counts), codes)
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _permuted(codes: Ints, blocks: Ints, n: int, seed: Sequence[int]) -> Iterator[Ints]:
    """Codes (b, U), the values of blocks exchanged; each block has one value."""
    generator = np.random.default_rng(seed)
    _, first, member = np.unique(blocks, return_index=True, return_inverse=True)
    values = codes[first]
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        yield generator.permuted(np.tile(values, (size, 1)), axis=1)[:, member]


def _tables(codes: Ints, labels: Ints) -> Floats:
    """Contingency tables (b, levels, classes) of rows of codes (b, U) with the labels."""
    levels, classes = int(codes.max()) + 1, int(labels.max()) + 1
    cells = codes * classes + labels + np.arange(len(codes))[:, None] * levels * classes
    counts = np.bincount(cells.ravel(), minlength=len(codes) * levels * classes)
    return counts.reshape(len(codes), levels, classes).astype(np.float64)


def _information(counts: Floats) -> Floats:
    """Mutual information in nats of contingency tables (b, levels, classes)."""
    joint = counts / counts.sum((1, 2), keepdims=True)
    expected = joint.sum(2, keepdims=True) * joint.sum(1, keepdims=True)
    ratio = np.divide(joint, expected, out=np.ones_like(joint), where=joint > 0)
    return np.asarray((joint * np.log(ratio)).sum((1, 2)))


def _cramers_v(counts: Floats) -> float:
    """Cramer's V, corrected for its bias in small tables (Bergsma 2013)."""
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    rows, columns = counts.shape
    n = counts.sum()
    if min(rows, columns) < 2 or n < 2:
        return 0.0
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / n
    phi2 = float(((counts - expected) ** 2 / expected).sum() / n)
    phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
    size = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return float(np.sqrt(phi2 / size)) if size > 0 else 0.0


def _best_auroc(values: Floats, labels: Ints) -> float:
    """AUROC of the value for the class that it tells best from the others, below .5 where it falls."""
    classes = np.unique(labels)[1:] if len(np.unique(labels)) == 2 else np.unique(labels)
    aurocs = [float(auroc((labels == c).astype(float), values)) for c in classes]
    return max(aurocs, key=lambda value: abs(value - 0.5)) if aurocs else float("nan")


_SCORES = ["split", "n", "accuracy", "balanced_accuracy", "auroc", "majority"]


def _no_scores() -> pd.DataFrame:
    return pd.DataFrame(columns=_SCORES)


def _metadata_only(
    frame: pd.DataFrame, units: _Units, variables: Sequence[_Variable], n_folds: int, seed: int
) -> pd.DataFrame:
    """Gradient boosting on all columns, fitted on patients, scored on the images of others."""
    features = np.column_stack([v.values for v in variables])
    n_folds = min(n_folds, len(np.unique(units.groups)), int(np.bincount(units.labels).min()))
    if n_folds < 2:
        return _no_scores()
    folds = grouped_folds(units.groups, units.labels, n_folds, seed)
    n_classes = int(units.labels.max()) + 1
    probability = np.zeros((len(units), n_classes))
    for fold in range(n_folds):
        train = folds != fold
        model = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=seed)
        present = np.unique(units.labels[train])
        if len(present) == 1:
            probability[~train, present[0]] = 1
            continue
        model.fit(features[train], units.labels[train])
        probability[np.ix_(~train, model.classes_)] = model.predict_proba(features[~train])
    rows = probability[units.of_row]
    truth = units.labels[units.of_row]
    split = frame["split"].astype(str).to_numpy() if "split" in frame.columns else np.full(len(frame), "")
    names = [name for name in dict.fromkeys(split.tolist()) if name]
    scores = [_scored(name, truth[split == name], rows[split == name]) for name in names]
    return pd.DataFrame([*scores, _scored("all", truth, rows)], columns=_SCORES)


def _scored(split: str, truth: Ints, probability: Floats) -> list[Any]:
    predicted = probability.argmax(1)
    classes = np.unique(truth)
    area = float("nan")
    if len(classes) == 2 and probability.shape[1] == 2:
        area = float(roc_auc_score(truth, probability[:, 1]))
    balanced = balanced_accuracy_score(truth, predicted) if set(predicted) <= set(classes) else np.nan
    majority = float(np.bincount(truth).max() / len(truth))
    return [split, len(truth), float(accuracy_score(truth, predicted)), float(balanced), area, majority]
