"""The result of an intervention on the pixels: a word, what it rests on, and pictures of before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import read_frame, read_object, slug, write_atomically, write_frame, write_json
from shortcutscope.pixels.decision import Word
from shortcutscope.pixels.effects import Response
from shortcutscope.pixels.levelled import Levelled
from shortcutscope.show import parts
from shortcutscope.show.isolation import sheet
from shortcutscope.types import Record
from shortcutscope.versions import PIXELS_FORMAT

Way = Literal["erase", "transfer"]
Pictures = Mapping[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True)
class PixelTest:
    """Whether the network answers to a concept in the pixels.

    Attributes
    ----------
    concept : str
        Its name.
    word, reason : str
        ``"confirmed"``, ``"supported"`` (in one direction only), ``"not confirmed"``, or ``"could not be
        tested"``; and why.
    way : str
        ``"erase"`` (masks are filled, and what they hold inserted elsewhere) or ``"transfer"``.
    how : str
        The fill, or the transfer that was chosen.
    responses : sequence of Response
        Of the directions that were tested.
    levelled : sequence of Levelled
        Performance with the concept brought to one value in all images.
    candidates : sequence of dict
        Of a transfer: all that were tried, and how far each goes.
    settings, counts, notes
        What it depends on, how many samples, and what to know besides.
    samples : DataFrame
        A row an image that was edited: ``sample_id``, ``label``, ``direction``, ``before`` and ``after``
        (margins), ``shift`` (their difference) beside the mean ``null`` and deviation ``null_sd`` of the
        null's shifts in its label, ``change`` (the shift in standard deviations within a label, towards the
        concept's label), and ``flips``. Where too few images have masks for a test they are here all the
        same, each with the same fill at other places of itself as the null, and without ``change``.
    pictures : mapping
        ``before``, ``after`` (K, H, W) or (K, H, W, 3) uint8, ``sample_ids``, ``directions`` and ``kind``.

    Examples
    --------
    >>> test = audit["tag"].intervene(model, data, masks=masks)  # doctest: +SKIP
    >>> test.confirmed, test.summary()["word"], test.to_frame()  # doctest: +SKIP
    >>> ss.PixelTest.open(test.save("pixels")).to_dict() == test.to_dict()  # doctest: +SKIP
    True
    """

    concept: str
    word: Word
    reason: str
    way: Way
    how: str
    responses: Sequence[Response] = ()
    levelled: Sequence[Levelled] = ()
    candidates: Sequence[Record] = ()
    settings: Record = field(default_factory=dict)
    counts: Record = field(default_factory=dict)
    notes: Sequence[str] = ()
    samples: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    pictures: Pictures = field(default_factory=dict, repr=False)

    @property
    def confirmed(self) -> bool:
        """Whether the word is ``"confirmed"``."""
        return self.word == "confirmed"

    def summary(self) -> Record:
        """What ``findings.json`` says of it."""
        texts = (
            "effect",
            "null",
            "excess",
            "excess_interval",
            "z",
            "flips",
            "null_flips",
            "n",
            "n_groups",
            "doubt",
        )
        return {
            "word": self.word,
            "reason": self.reason,
            "way": self.way,
            "how": self.how,
            "directions": {
                r.direction: {k: v for k, v in r.to_dict().items() if k in texts} for r in self.responses
            },
            "levelled": [x.to_dict() for x in self.levelled],
        }

    def to_dict(self) -> Record:
        """All but the samples and the pictures, as JSON values."""
        return {
            "format": PIXELS_FORMAT,
            "concept": self.concept,
            "word": self.word,
            "reason": self.reason,
            "way": self.way,
            "how": self.how,
            "responses": [r.to_dict() for r in self.responses],
            "levelled": [x.to_dict() for x in self.levelled],
            "candidates": list(self.candidates),
            "settings": self.settings,
            "counts": self.counts,
            "notes": list(self.notes),
            "summary": self.summary(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write it into a folder: ``<concept>.json``, and beside it ``.parquet`` and ``.npz``.

        Returns
        -------
        Path
            Of the JSON file.
        """
        path = Path(folder) / f"{slug(self.concept)}.json"
        if len(self.samples):
            write_frame(path.with_suffix(".parquet"), self.samples)
        arrays = {name: np.asarray(value) for name, value in self.pictures.items()}
        if arrays:
            write_atomically(
                path.with_suffix(".npz"), lambda file: np.savez_compressed(file, allow_pickle=False, **arrays)
            )
        write_json(path, self.to_dict())  # last: the test is there by it
        return path

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        InputError
            A file that is missing, damaged, or of another format.
        """
        path = Path(path)
        values = {k: v for k, v in read_object(path).items() if k != "summary"}
        stored = values.pop("format", None)
        if stored != PIXELS_FORMAT:
            raise InputError(
                f"{path} is of format {stored!r}, and this version reads format {PIXELS_FORMAT}: test again"
            )
        values["responses"] = [Response.from_dict(r) for r in values["responses"]]
        values["levelled"] = [Levelled.from_dict(x) for x in values["levelled"]]
        table, beside = path.with_suffix(".parquet"), path.with_suffix(".npz")
        pictures: Record = {}
        if beside.exists():
            damaged = intact(beside, "pictures of an intervention", "delete it and test again")
            with damaged, np.load(beside, allow_pickle=False) as archive:
                pictures = dict(archive)
        return cls(
            **values, samples=read_frame(table) if table.exists() else pd.DataFrame(), pictures=pictures
        )

    def to_frame(self) -> pd.DataFrame:
        """A row a direction: effect, null and what is beyond it, with intervals by patient."""
        return pd.DataFrame([r.to_dict() for r in self.responses]).drop(columns="by_class", errors="ignore")

    def __repr__(self) -> str:
        lines = [f"PixelTest({self.concept!r}: {self.word}, {self.way} by {self.how})", f"  {self.reason}"]
        for levelled in self.levelled:
            lines.append(f"  {described(levelled)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        return sheet(
            parts.heading(f"{self.concept}, on the pixels: {self.word}", self.reason),
            parts.facts({"way": self.way, "by": self.how}),
            parts.notes([*map(described, self.levelled), *self.notes]),
            parts.table(self.to_frame().drop(columns=["null_of"], errors="ignore")),
            plain=repr(self),
        )


def described(levelled: Levelled) -> str:
    """What an image brought to one value comes to, in a sentence."""
    value, (low, high) = levelled.flips
    areas = ", ".join(
        f"{area:.2f} {state} ({a:.2f} to {b:.2f})" for state, (area, (a, b)) in levelled.auroc.items()
    )
    one, other = levelled.between
    return (
        f"{levelled.what} brought to one value in {levelled.n} images: AUROC {areas}; {value:.0%} "
        f"({low:.0%} to {high:.0%}) of the predictions differ between {one} and {other}"
    )
