"""What a person said of samples, and where: kept in the run as a CSV file that any tool can open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shortcutscope.data.sample_names import as_ids
from shortcutscope.errors import InputError
from shortcutscope.files import slug, write_atomically
from shortcutscope.retrieval.places import EDGES, boxes_of, has_places, is_click, no_places, read_places
from shortcutscope.types import Array, Floats, Record

#: ``round`` 0 are the marks that one begins with; answers to queries follow. ``query`` says how a sample was
#: chosen for asking. ``who`` and ``when`` are what the user gave, or empty.
COLUMNS = ("sample_id", "value", "round", "query", "who", "when")


class Marks:
    """Answers in the order in which they were given; the last one about a sample counts.

    Parameters
    ----------
    answers
        With the columns of :data:`COLUMNS`; the first two are enough. With ``x0, y0, x1, y1`` (or ``x, y``) a
        row also says where: a box (or a click) in pixels of the image's file; several rows of one sample are
        several boxes.
    places
        Where, in place of these columns.

    Attributes
    ----------
    answers
        One row per answer.
    places
        sample_id, x0, y0, x1, y1 of the samples that count as carriers.

    Raises
    ------
    InputError
        For missing columns, values other than 0, 1, True, False and missing (taken back), boxes that are
        none, and boxes of samples that are marked as free of it.

    Examples
    --------
    >>> marks = ss.Marks.of(["s0-0003"], ["s0-0004"], boxes={"s0-0003": [(1, 1, 7, 7)]})
    >>> later = marks.after({"s0-0004": True, "s0-0005": False}, who="M. K.")
    >>> later.aligned_to(["s0-0003", "s0-0004", "s0-0005", "s0-0006"])
    array([ 1.,  1.,  0., nan])
    >>> later.boxes(["s0-0003"]), later.areas(["s0-0003"]) == later.boxes(["s0-0003"])
    ({0: [(1.0, 1.0, 7.0, 7.0)]}, True)
    >>> said, rounds = later.current, later.rounds
    >>> joined = marks.followed_by(later).by_id(list(data.frame["sample_id"]))
    >>> again = ss.Marks.open(later.save("marks"))
    """

    def __init__(self, answers: pd.DataFrame | None = None, places: pd.DataFrame | None = None) -> None:
        frame = pd.DataFrame(columns=list(COLUMNS)) if answers is None else answers.copy()
        missing = [name for name in COLUMNS[:2] if name not in frame]
        if missing:
            raise InputError(f"marks need the columns sample_id and value; missing: {', '.join(missing)}")
        defaults: Record = {"round": 0, "query": "", "who": "", "when": ""}
        for name, default in defaults.items():
            frame[name] = frame[name].fillna(default) if name in frame else default
        frame["sample_id"] = frame["sample_id"].astype(str)
        frame["value"] = _values(frame["value"])
        frame["round"] = frame["round"].astype(int)
        if places is None and has_places(frame):
            places = read_places(frame)
            frame = frame.drop_duplicates(list(COLUMNS), keep="last")  # a row a box: one answer
        self.answers = frame[list(COLUMNS)].reset_index(drop=True)
        self.places = self._of_carriers(no_places() if places is None else places)

    @classmethod
    def of(
        cls,
        carriers: Sequence[str],
        others: Sequence[str] = (),
        boxes: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> Marks:
        """Marks to begin with.

        Parameters
        ----------
        carriers, others
            Sample ids of those that carry it, and of those that are free of it.
        boxes
            Where: sample id of a carrier to its boxes (x0, y0, x1, y1), or clicks (x, y), in pixels of the
            file.

        Raises
        ------
        InputError
            When a sample is named as both.
        """
        both = sorted({str(i) for i in carriers} & {str(i) for i in others})
        if both:
            raise InputError(f"samples are marked as carriers and as others: {both[:5]}")
        ids = [*map(str, carriers), *map(str, others)]
        values = [1.0] * len(carriers) + [0.0] * len(others)
        return cls(pd.DataFrame({"sample_id": ids, "value": values}), _places(boxes or {}))

    @classmethod
    def open(cls, path: str | Path) -> Marks:
        """Read what :meth:`save` wrote; no file, no marks."""
        path = Path(path)
        if not path.exists():
            return cls()
        try:
            # A sample may be called "NA": only an empty value is missing.
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            for name in frame.columns.intersection(["value", "round", *EDGES]):
                frame[name] = pd.to_numeric(frame[name])  # an empty field becomes NaN
        except (OSError, ValueError) as error:
            raise InputError(f"{path} holds no marks ({error}); mend or delete it") from error
        return cls(frame)

    def save(self, path: str | Path) -> Path:
        """Write a CSV file, whole or not at all."""
        frame = self.answers
        if len(self.places):
            last = ~frame.duplicated("sample_id", keep="last")
            boxed = frame[last].merge(self.places, on="sample_id", how="left")
            frame = pd.concat([frame[~last], boxed], ignore_index=True)
        path, text = Path(path), frame.to_csv(index=False)
        write_atomically(path, lambda file: file.write(text.encode()))
        return path

    def __len__(self) -> int:
        return len(self.current)

    @property
    def current(self) -> pd.DataFrame:
        """The answer that counts of every marked sample."""
        last = self.answers.drop_duplicates("sample_id", keep="last")
        return last[last["value"].notna()].reset_index(drop=True)

    @property
    def rounds(self) -> int:
        """Number of rounds of answers after the marks that one began with."""
        return int(self.answers["round"].max()) if len(self.answers) else 0

    def after(
        self,
        answers: Mapping[str, bool | None],
        queries: Mapping[str, str] | None = None,
        *,
        boxes: Mapping[str, Sequence[Sequence[float]]] | None = None,
        who: str = "",
        when: str = "",
    ) -> Marks:
        """These marks and a further round of answers; None takes a mark back.

        `boxes` of a carrier replace those that it had; none (an empty list) takes them away.
        """
        reasons = queries or {}
        rows = [
            (
                str(name),
                np.nan if value is None else float(value),
                self.rounds + 1,
                reasons.get(str(name), ""),
            )
            for name, value in answers.items()
        ]
        new = pd.DataFrame(rows, columns=list(COLUMNS[:4])).assign(who=who, when=when)
        answers_now = new if self.answers.empty else pd.concat([self.answers, new], ignore_index=True)
        places, boxed = _only(self.places, answers_now), boxes or {}
        if boxed:
            others = places[~places["sample_id"].isin(list(boxed))]
            places = pd.concat([others, _places(boxed)], ignore_index=True)
        return Marks(answers_now, places)

    def followed_by(self, later: Marks) -> Marks:
        """These marks and later ones; what the later ones box anew replaces earlier boxes."""
        if not len(self.answers) or not len(later.answers):
            return later if len(later.answers) else self
        answers = pd.concat([self.answers, later.answers], ignore_index=True)
        kept = self.places[~self.places["sample_id"].isin(later.places["sample_id"])]
        places = later.places if kept.empty else pd.concat([kept, later.places], ignore_index=True)
        return Marks(answers, _only(places, answers))

    def by_id(self, sample_ids: Sequence[str], files: Mapping[str, str] | None = None) -> Marks:
        """These marks, of samples that are named by their images' files too, by sample id."""
        frames = [
            frame.assign(sample_id=as_ids(frame["sample_id"], sample_ids, files))
            for frame in (self.answers, self.places)
        ]
        return Marks(*frames)

    def boxes(self, sample_ids: Sequence[str] | Array) -> dict[int, list[tuple[float, ...]]]:
        """Number of a sample among `sample_ids` to its boxes (x0, y0, x1, y1); a click has no size."""
        return boxes_of(self.places, [str(i) for i in sample_ids])

    def areas(self, sample_ids: Sequence[str] | Array) -> dict[int, list[tuple[float, ...]]]:
        """As :meth:`boxes`, without clicks."""
        boxes = {
            row: [b for b in several if not is_click(b)] for row, several in self.boxes(sample_ids).items()
        }
        return {row: several for row, several in boxes.items() if several}

    def aligned_to(self, sample_ids: Sequence[str] | Array) -> Floats:
        """``(N,)`` 1, 0 or NaN of these samples.

        Raises
        ------
        InputError
            When a marked sample is not among them.
        """
        ids = [str(i) for i in sample_ids]
        current = self.current.set_index("sample_id")["value"]
        unknown = sorted(set(current.index) - set(ids))
        if unknown:
            raise InputError(
                f"{len(unknown)} marked samples are not among the {len(ids)} scanned ones, "
                f"for example {unknown[:5]}; marks go by sample_id"
            )
        return np.asarray(current.reindex(ids), np.float64)

    def _of_carriers(self, places: pd.DataFrame) -> pd.DataFrame:
        current = self.current.set_index("sample_id")["value"].reindex(places["sample_id"]).to_numpy()
        if (current == 0).any():
            name = places["sample_id"][current == 0].iloc[0]
            raise InputError(
                f"sample {name!r} is marked as free of it and has a box; leave out the box, or mark it as "
                "a carrier"
            )
        kept: pd.DataFrame = places[current == 1].drop_duplicates().reset_index(drop=True)
        return kept


def marks_path(run: str | Path, finding: str) -> Path:
    """File of a finding's marks in a run directory."""
    return Path(run) / "marks" / f"{slug(finding)}.csv"


def _only(places: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Places of the samples that carry it by the last answer."""
    last = answers.drop_duplicates("sample_id", keep="last").set_index("sample_id")["value"]
    return places[(last.reindex(places["sample_id"]) == 1).to_numpy()]


def _places(boxes: Mapping[str, Sequence[Sequence[float]]]) -> pd.DataFrame:
    rows = [
        (str(name), *(box if len(box) == len(EDGES) else (*box, *box)))
        for name, several in boxes.items()
        for box in several
    ]
    if any(len(row) != 1 + len(EDGES) for row in rows):
        raise InputError("a place is a box (x0, y0, x1, y1) or a click (x, y), in pixels of the file")
    return read_places(pd.DataFrame(rows, columns=["sample_id", *EDGES])) if rows else no_places()


def _values(column: pd.Series[Any]) -> pd.Series[float]:
    try:
        numbers = column.astype(object).map(lambda v: np.nan if pd.isna(v) else float(v)).astype(float)
    except (TypeError, ValueError) as error:
        raise InputError(f"marks must be 1 (carrier), 0 (free of it) or missing: {error}") from error
    wrong = numbers[numbers.notna() & ~numbers.isin([0, 1])]
    if len(wrong):
        raise InputError(f"a mark is {wrong.iloc[0]:g}; allowed are 1 (carrier), 0 (free of it) and missing")
    return numbers
