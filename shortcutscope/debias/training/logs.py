"""What is said of a training while it runs: means of the terms, as JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shortcutscope.files import to_json, write_atomically

__all__ = ["Log", "NonFiniteLossError", "Terms"]


class NonFiniteLossError(Exception):
    """A term of the loss became NaN or infinite."""

    def __init__(self, step: int, term: str, value: float) -> None:
        super().__init__(f"the training loss became {value} at step {step} (its term {term!r})")


class Terms:
    """The terms of the steps since the last row of the log.

    They stay on the device until `settle`, since reading a number waits for all that the device was told.

    Parameters
    ----------
    total
        Sums a tensor over all processes.
    """

    def __init__(self, total: Callable[[Tensor], Tensor]) -> None:
        self._total = total
        self._waiting: list[tuple[int, str, Tensor]] = []
        self.settled: list[tuple[str, float]] = []

    def add(self, step: int, terms: Mapping[str, Tensor], share: float) -> None:
        """Note the terms of a step, of which this process computed this share."""
        self._waiting += [(step, name, value.detach() * share) for name, value in terms.items()]

    def settle(self) -> None:
        """Fetch what waits on the device.

        Raises
        ------
        NonFiniteLossError
            When a term of one of these steps was not finite.
        """
        if not self._waiting:
            return
        dtype = torch.float32 if self._waiting[0][2].device.type == "mps" else torch.float64
        fetched = self._total(torch.stack([value.to(dtype) for _, _, value in self._waiting])).tolist()
        for (step, name, _), value in zip(self._waiting, fetched, strict=True):
            if not math.isfinite(value):
                raise NonFiniteLossError(step, name, value)
            self.settled.append((name, value))
        self._waiting.clear()

    def means(self) -> dict[str, float]:
        """Mean of every term over these steps; then begin anew."""
        self.settle()
        names = list(dict.fromkeys(name for name, _ in self.settled))
        values = {name: [v for n, v in self.settled if n == name] for name in names}
        self.settled = []
        return {name: math.fsum(entries) / len(entries) for name, entries in values.items()}


class Log:
    """The rows of a training's history, kept as JSON lines and as TensorBoard events.

    Events are written where the package ``tensorboard`` is installed; the JSON lines hold the same.

    Parameters
    ----------
    folder
        Where ``log.jsonl`` and ``events/`` lie; None keeps the rows in memory only.
    rows
        What was logged before a training was interrupted; later rows in the folder are dropped.
    """

    def __init__(self, folder: Path | None, rows: Sequence[Mapping[str, float]] = ()) -> None:
        self.rows: list[dict[str, float]] = [dict(row) for row in rows]
        self._path = None if folder is None else folder / "log.jsonl"
        self._events: Any = None
        if folder is None or self._path is None:
            return
        text = "".join(_line(row) for row in self.rows)
        write_atomically(self._path, lambda file: file.write(text.encode()))
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        after = self.rows[-1]["step"] + 1 if self.rows else 0
        self._events = SummaryWriter(folder / "events", purge_step=int(after))

    def add(self, row: Mapping[str, float]) -> None:
        """Note one row."""
        self.rows.append(dict(row))
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        if self._events is not None:
            for name in row.keys() - {"step"}:
                self._events.add_scalar(name, row[name], int(row["step"]))

    def close(self) -> None:
        """Finish the events' file."""
        if self._events is not None:
            self._events.close()


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(to_json(row), allow_nan=False) + "\n"
