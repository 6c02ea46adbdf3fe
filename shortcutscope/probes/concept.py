"""A concept: what is known per sample of a possible shortcut, 0, 1 or unknown, and where that comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from shortcutscope.data.sample_names import as_ids
from shortcutscope.errors import InputError
from shortcutscope.probes.columns import ColumnKind, column_values
from shortcutscope.probes.marks import KEEP, MIN_MARKS, propagate_marks
from shortcutscope.probes.mixture import split_scores
from shortcutscope.probes.reading import Reading
from shortcutscope.probes.reading import some as _some
from shortcutscope.types import Array, Bools, Floats, Ints

if TYPE_CHECKING:
    from shortcutscope.scan.scanner import Scan

#: Origin of concepts that are computed from the pixels.
PICTURE = "picture"
#: Origin of what nobody named, and a search proposed.
DISCOVERED = "discovered"


@dataclass(frozen=True, eq=False)
class Concept:
    """A per-sample signal in {0, 1, unknown} .

    Attributes
    ----------
    name
        Short, unique within an audit.
    values
        ``(N,)`` 0, 1 or NaN (unknown).
    origin
        ``"metadata"``, ``"file"`` or ``"picture"`` (columns measured of them), ``"planted"``, ``"marked"``,
        ``"discovered"``, or one's own word. A network that responds to a ``"picture"`` property may follow
        the acquisition or the disease: it is called no shortcut.
    sample_ids
        ``(N,)`` unique ids of the samples, as strings.
    description
        What 1 means and how the values were made, for the report.
    notes
        What a reader must know before trusting the values.
    marks
        ``(N,)`` the values that a person gave, NaN elsewhere; None where the values were not inferred from
        marks.
    selected_from
        Of how many candidates it was chosen because the logit differs between its carriers and the others,
        and because it goes with the label. Tests of use and of association are corrected by that number.
    reading
        How the values were read from a column; None where they come from elsewhere. See :meth:`on`.
    same
        Names of other concepts that part these samples alike, so that they are tested as this one.

    Raises
    ------
    InputError
        For values other than 0, 1 and NaN, ids that repeat, or different lengths.

    Examples
    --------
    >>> [concept] = ss.Concept.from_column(data.frame, "tag")
    >>> concept.n_carriers, int(concept.known.sum())
    (61, 120)
    >>> concept.swapped().n_carriers, concept.take(np.arange(10)).n_carriers
    (59, 6)
    >>> concept.aligned_to(["s0-0001", "elsewhere"]).values
    array([ 1., nan])
    >>> len(concept.fingerprint())
    64
    >>> mine = ss.Concept.from_marks(scan, carriers, others, name="corner")  # doctest: +SKIP
    """

    name: str
    values: Floats
    origin: str
    sample_ids: npt.NDArray[np.str_]
    description: str = ""
    notes: tuple[str, ...] = ()
    marks: Floats | None = None
    selected_from: int = 1
    reading: Reading | None = None
    same: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float64)
        ids = np.array([str(i) for i in self.sample_ids], dtype=np.str_)
        if not self.name:
            raise InputError("a concept needs a name")
        if values.ndim != 1 or values.shape != ids.shape:
            raise InputError(f"concept {self.name!r}: {values.shape} values for {ids.shape} sample ids")
        wrong = values[~(np.isnan(values) | (values == 0) | (values == 1))]
        if len(wrong):
            raise InputError(f"concept {self.name!r} holds {wrong[0]:g}; allowed are 0, 1 and NaN (unknown)")
        unique, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise InputError(f"concept {self.name!r}: sample id {unique[counts > 1][0]!r} occurs twice")
        for array in (values, ids):
            array.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "sample_ids", ids)

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return (
            f"Concept({self.name!r}, {self.origin}: {self.n_carriers} with, {int((self.values == 0).sum())} "
            f"without, {int(np.isnan(self.values).sum())} unknown)"
        )

    @property
    def known(self) -> Bools:
        """``(N,)`` the samples whose value is known."""
        return ~np.isnan(self.values)

    @property
    def n_carriers(self) -> int:
        """Number of samples with value 1."""
        return int((self.values == 1).sum())

    def aligned_to(self, sample_ids: Sequence[str] | Array | pd.Series) -> Concept:
        """The concept over other samples, in their order; samples it does not know are unknown.

        Raises
        ------
        InputError
            When it knows none of them: then the ids are of another table.
        """
        targets = np.array([str(i) for i in sample_ids], dtype=np.str_)
        names = self.sample_ids
        if len(targets) and not np.isin(targets, names).any():  # a user's concept may go by the images' names
            names = np.array(as_ids(names, targets.tolist()), dtype=np.str_)
        by_name = pd.Series(self.values, index=pd.Index(names))
        if len(targets) and not np.isin(targets, names).any():
            raise InputError(
                f"concept {self.name!r} knows none of the {len(targets)} samples asked for "
                f"(its ids: {_some(self.sample_ids)}; asked for: {_some(targets)})"
            )
        marks = self.marks
        if marks is not None:
            marks = np.asarray(pd.Series(marks, index=by_name.index).reindex(targets), np.float64)
        values = np.asarray(by_name.reindex(targets), np.float64)
        return replace(self, values=values, sample_ids=targets, marks=marks)

    def take(self, rows: Ints) -> Concept:
        """The concept over some of its samples."""
        marks = None if self.marks is None else self.marks[rows]
        return replace(self, values=self.values[rows], sample_ids=self.sample_ids[rows], marks=marks)

    def on(self, frame: pd.DataFrame) -> Concept:
        """The concept over the samples of another table, read from its column exactly as it was read before.

        Where the frame lacks the column, or the concept was not read from one, its values are those known by
        sample id.

        Parameters
        ----------
        frame
            Of an image table.

        Raises
        ------
        InputError
            When the column holds what the reading does not know, see
            :meth:`shortcutscope.probes.reading.Reading.of`; and when there is no column and no sample of the
            frame is known.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"sample_id": list("abcd"), "ring": ["present", "absent"] * 2})
        >>> ring = Concept.from_column(frame, "ring", min_carriers=2)[0]
        >>> ring.on(pd.DataFrame({"sample_id": ["x"], "ring": ["Absent"]})).values
        array([0.])
        """
        if self.reading is not None and self.reading.column in frame:
            values = self.reading.of(frame)
            return replace(self, values=values, sample_ids=frame["sample_id"].to_numpy(), marks=None)
        try:
            return self.aligned_to(frame["sample_id"])
        except InputError as error:
            if self.reading is None:
                raise
            raise InputError(f"{error}, and the table has no column {self.reading.column!r}") from error

    def swapped(self) -> Concept:
        """The same concept with the other value named present.

        No verdict may depend on which of the two is called 1; this is for checking it.
        """
        description = f"{self.description} (values swapped)".lstrip()
        marks = None if self.marks is None else 1 - self.marks
        return replace(self, values=1 - self.values, description=description, marks=marks, reading=None)

    def as_marked(self, labels: Array) -> Floats:
        """Values ``(N,)`` that no classifier chose: the marks against all unmarked samples of their class.

        Values inferred from marks were chosen by a score, and whatever else moves that score differs
        between them, too. Where the question is what the artifact looks like, the marks themselves answer
        it: against all unmarked samples, of which some carry it unseen, in the classes with enough marks.
        Without marks, the values.

        Parameters
        ----------
        labels
            ``(N,)``.
        """
        marks = self.marks
        if marks is None:
            return self.values
        marked = max((0, 1), key=lambda value: np.count_nonzero(marks == value))
        values = np.full(len(self.values), np.nan)
        for label in np.unique(labels):
            inside = labels == label
            if np.count_nonzero(marks[inside] == marked) >= MIN_MARKS:
                values[inside] = np.where(marks[inside] == marked, marked, 1 - marked)
        return values

    def fingerprint(self) -> str:
        """SHA-256 (hex) of name, ids and values; the same between processes and machines."""
        digest = hashlib.sha256(repr((self.name, self.origin)).encode())
        digest.update("\0".join(self.sample_ids.tolist()).encode())
        for array in (self.values, self.marks):
            if array is not None:
                digest.update(np.nan_to_num(array, nan=2.0).astype(np.int8).tobytes())
        return digest.hexdigest()

    @classmethod
    def from_column(
        cls,
        frame: pd.DataFrame,
        column: str,
        *,
        sample_id: str = "sample_id",
        kind: ColumnKind = "auto",
        min_carriers: int = 10,
        max_levels: int = 12,
        origin: str = "metadata",
        present: str | float | bool | None = None,
        symmetric: bool = False,
    ) -> list[Concept]:
        """Concepts of a metadata column.

        Missing entries (empty strings, too) are unknown.

        - two values: one concept. 1 is the larger number, True, or the word that says present: yes, present,
          true, positive, with, the column's own name; or the other one, where one says absent: no, none,
          absent, false, negative, without. Of two other words `present` says which.
        - 1, 0 and -1: -1 is taken for uncertain, thus unknown.
        - categorical (words, or up to ``max_levels`` whole numbers): one concept per level with enough
          samples, this level against all others; of a level that says absent, and of 0, all others
          against it.
        - continuous (other numbers, dates): top against bottom third, the middle unknown. Where one value
          fills the lower or the upper two thirds, the rest against that value.

        Neither names nor which value is 1 depend on how frequent a value is. What was read is kept as
        :attr:`reading`, and applied to other tables by :meth:`on`.

        Parameters
        ----------
        frame
            With the columns ``sample_id`` and ``column``.
        column
            Name of the column.
        sample_id
            Name of the id column.
        kind
            ``"auto"``, ``"categorical"`` or ``"continuous"``, to overrule the guess.
        min_carriers
            Fewest samples with and without; a level with fewer is left out.
        max_levels
            Most levels of a categorical column.
        origin
            See the class.
        present
            The value that means that the artifact is there, against all others.
        symmetric
            Take the alphabetically last of two words that do not tell for 1, and note that neither is the
            artifact, instead of refusing them.

        Raises
        ------
        InputError
            No such column, one value only, ids (all values differ), too many levels, too few carriers, two
            words that do not tell which is present, words among numbers, several values in an entry.
        """
        for name in (column, sample_id):
            if name not in frame:
                raise InputError(
                    f"there is no column {name!r}; the columns are {_some(list(frame.columns), 20)}"
                )
        levels = column_values(
            frame[column],
            column,
            kind=kind,
            min_carriers=min_carriers,
            max_levels=max_levels,
            present=present,
            symmetric=symmetric,
        )
        ids = frame[sample_id].to_numpy()
        return [
            cls(level.name, level.values, origin, ids, level.description, reading=level.reading)
            for level in levels
        ]

    @classmethod
    def from_marks(
        cls,
        scan: Scan,
        carriers: Sequence[str],
        others: Sequence[str] = (),
        *,
        name: str = "marked",
        layers: Sequence[str] | None = None,
        keep: float = KEEP,
        min_carriers: int = 10,
        seed: int = 0,
    ) -> Concept:
        """A concept from about ten samples that a person marked as carriers.

        See :func:`shortcutscope.probes.marks.propagate_marks`.

        Parameters
        ----------
        scan
            Of the samples.
        carriers
            Sample ids that were marked.
        others
            Sample ids known to be free of it.
        name
            Of the concept.
        layers
            Layer names; by default those of the first half of the network.
        keep
            Share of the carriers, and of the others, that each class is estimated to have, that get a
            value: the surest ones. What lies between is unknown.
        min_carriers
            Fewest such samples with and without.
        seed
            Of the folds.

        Raises
        ------
        InputError
            For a scan of several labels, unknown or contradictory ids, fewer than five marks, marks that
            cannot be told from the other samples, or too few confident samples.
        """
        scan.require_one_label("a concept from marks")
        names = _first_half(scan) if layers is None else list(layers)
        result = propagate_marks(
            [scan.features(layer) for layer in names],
            scan.samples,
            carriers,
            others,
            keep=keep,
            min_carriers=min_carriers,
            seed=seed,
        )
        ids = scan.samples["sample_id"].to_numpy()
        description = f"{result.summary} (layers {_some(names)})"
        return cls(name, result.values, "marked", ids, description, result.notes, result.marks)

    @classmethod
    def from_scores(
        cls,
        name: str,
        scores: npt.ArrayLike,
        sample_ids: Sequence[str] | Array,
        *,
        labels: npt.ArrayLike | None = None,
        confidence: float = 0.9,
        min_carriers: int = 10,
        origin: str = "discovered",
        description: str = "",
    ) -> Concept:
        """A concept from a score per sample, large for carriers: two groups, the doubtful between unknown.

        Parameters
        ----------
        name
            Of the concept.
        scores
            ``(N,)``; NaN is unknown.
        sample_ids
            ``(N,)``.
        labels
            ``(N,)`` classes, in which the groups may be differently frequent.
        confidence
            Posterior probability from which a sample counts as one of the groups.
        min_carriers
            As :meth:`from_marks`.
        origin, description
            See the class.

        Raises
        ------
        InputError
            When the scores do not fall into two groups, or one of them is too small.

        Examples
        --------
        >>> scores = np.concatenate([rng.normal(0, 1, 60), rng.normal(8, 1, 60)])
        >>> ss.Concept.from_scores("bright", scores, data.frame["sample_id"].to_numpy()).n_carriers
        60
        """
        scores = np.asarray(scores, np.float64)
        codes = np.zeros(len(scores), np.intp)
        if labels is not None:
            codes = np.asarray(np.unique(np.asarray(labels), return_inverse=True)[1], np.intp)
        values = split_scores(scores, codes, name, confidence=confidence, min_carriers=min_carriers)
        origin_text = f"two groups of a score, confident at {confidence:g}"
        return cls(name, values, origin, np.asarray(sample_ids), f"{description}; {origin_text}".lstrip("; "))


def _first_half(scan: Scan) -> list[str]:
    """Layers of the first half: artifacts are plain there, while late blocks mix them with the label."""
    layers = [layer.name for layer in scan.layers if layer.depth <= 0.5]
    return layers or [scan.layers[0].name]
