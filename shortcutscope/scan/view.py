"""One output of a scan of several labels: its logit, its label, and the samples of which that is known.

A folder with a ``view.json`` names a scan that lies elsewhere, and is opened as a scan of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import read_object, write_json
from shortcutscope.models.heads.head import Head
from shortcutscope.scan.choice import GRADIENT, NONE, AttributionChoice
from shortcutscope.scan.store import ShardReader
from shortcutscope.types import Array, Floats, Ints, Record
from shortcutscope.versions import SCAN_FORMAT

VIEW = "view.json"
#: Why most outputs have no relevance of their own.
ONE_SCORE = (
    "relevance is of one score a sample, and there are several outputs: scan with target='every' "
    "(--target every), which takes as many backward passes as there are outputs"
)


@dataclass(frozen=True, eq=False)
class OutputReader:
    """The store of a scan, as if one output and its label were all.

    Attributes
    ----------
    folder
        Of the view.
    whole
        The store of all outputs.
    column
        Of its samples, which holds the label: 1, 0, or NaN (left out).
    head
        Of the output.
    """

    folder: Path
    whole: ShardReader
    column: str
    head: Head

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder with a `VIEW`.

        Raises
        ------
        InputError
            When what it names is not there, or it is damaged.
        """
        stored = read_object(folder / VIEW)
        if stored.get("format") != SCAN_FORMAT:
            raise InputError(f"{folder / VIEW} is of another version: run the same audit again")
        with intact(folder / VIEW, "a view of a scan", "run the same audit again, which writes it anew"):
            place, column, head = stored["scan"], stored["column"], Head.from_json(stored["head"])
        whole = folder / place
        if not whole.is_dir():
            raise InputError(
                f"{folder} is a view of the scan in {whole}, which is not there: keep them together"
            )
        return cls(folder, ShardReader(whole), column, head)

    def write(self) -> None:
        """Keep the view, with where the scan lies from there."""
        place = Path(os.path.relpath(self.whole.folder, self.folder)).as_posix()
        record = {"format": SCAN_FORMAT, "scan": place, "column": self.column, "head": self.head.to_json()}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / VIEW, record)

    @cached_property
    def rows(self) -> Ints:
        """Its samples among those of the whole, in rising order."""
        return np.flatnonzero(self._all_samples[self.column].notna())

    @cached_property
    def _all_samples(self) -> pd.DataFrame:
        return self.whole.samples()

    @property
    def n_rows(self) -> int:
        """Samples."""
        return len(self.rows)

    @property
    def _output(self) -> int:
        output = self.head.index
        assert output is not None
        return output

    @property
    def _every(self) -> bool:
        return bool(self.whole.inputs["target"] == "every")

    @property
    def _explained(self) -> bool:
        """Whether relevance of this output was recorded."""
        target = self.whole.inputs["target"]
        return bool(self.whole.inputs["relevance"] and (self._every or target == self._output))

    @property
    def inputs(self) -> Record:
        """Of the scan, as if of this output alone."""
        own: Record = {"target": 1, "task": "binary", "output": self.head.to_json()}
        return {**self.whole.inputs, **own, "relevance": self._explained}

    @property
    def remarks(self) -> Record:
        """Of the scan; why there is no relevance, where that is so because there are several outputs."""
        remarks = {**self.whole.remarks, "labels": []}
        choice = AttributionChoice.from_json(remarks.get("attribution"))
        if self._explained or choice.used == NONE:
            return remarks
        return {**remarks, "attribution": AttributionChoice(GRADIENT, NONE, ONE_SCORE).to_json()}

    def keys(self) -> list[str]:
        """Names of the stored arrays."""
        stored = self.whole.keys()
        return [key for key in stored if self._explained or not _is_relevance(key)]

    def read(self, key: str) -> Array:
        """One array (n_rows, ...).

        Raises
        ------
        InputError
            No such array.
        """
        if key not in self.keys():
            raise InputError(f"the scan in {self.folder} holds no {key!r}")
        return self._of_output(key, self.whole.read(key)[self.rows])

    def read_rows(self, key: str, start: int, stop: int, out: Array) -> None:
        """Rows start:stop of an array that there is (`keys`) into another."""
        rows = self.rows[start:stop]
        if not len(rows):
            return
        first, last = int(rows[0]), int(rows[-1]) + 1
        span: Floats = np.empty((last - first, *self.whole.row_shape(key)), np.float32)
        self.whole.read_rows(key, first, last, span)
        out[:] = self._of_output(key, span[rows - first])

    def _of_output(self, key: str, values: Array) -> Array:
        if key == "logits":
            return values[:, self._output : self._output + 1]
        if key == "target":
            return np.ones(len(values), np.int64)
        return values[:, self._output] if _is_relevance(key) and self._every else values

    def row_shape(self, key: str) -> tuple[int, ...]:
        """Shape of one row of an array that there is (`keys`)."""
        shape = self.whole.row_shape(key)
        if key == "logits":
            return (1,)
        return shape[1:] if _is_relevance(key) and self._every else shape

    def samples(self) -> pd.DataFrame:
        """The table of samples, with its label and decision."""
        own = self._all_samples.iloc[self.rows].reset_index(drop=True)
        label = own[self.column].to_numpy(np.int64)
        prediction = (self.read("logits")[:, 0] > 0).astype(np.int64)
        frame = own.drop(columns=self.column) if self.column != "label" else own
        return frame.assign(label=label, prediction=prediction, target=1)

    def verify(self) -> None:
        """Compare every shard with its checksum."""
        self.whole.verify()


def _is_relevance(key: str) -> bool:
    return key.startswith("relevance/")
