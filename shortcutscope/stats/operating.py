"""Operating points: the threshold at which a score becomes a decision, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shortcutscope.errors import InputError
from shortcutscope.types import Bools, Floats

Kind = Literal["given", "youden", "sensitivity"]


@dataclass(frozen=True)
class Operating:
    """How a threshold is chosen.

    Attributes
    ----------
    kind
        ``"given"``; ``"youden"``, where sensitivity plus specificity is largest; or ``"sensitivity"``, the
        highest that has it.
    value
        The probability, or the sensitivity.
    """

    kind: Kind
    value: float = 0.5

    @classmethod
    def of(cls, given: float | str) -> Operating:
        """From what a user says.

        Raises
        ------
        InputError
            Anything but a probability, ``"youden"`` and ``"sensitivity=..."``.

        Examples
        --------
        >>> Operating.of(0.5), Operating.of("sensitivity=.9")
        (Operating(kind='given', value=0.5), Operating(kind='sensitivity', value=0.9))
        """
        name, sign, value = str(given).partition("=")
        if name.strip().lower() == "youden" and not sign:
            return cls("youden")
        kind: Kind = "sensitivity" if sign and name.strip().lower() == "sensitivity" else "given"
        try:
            number = float(value if kind == "sensitivity" else given)
        except (TypeError, ValueError):
            number = float("nan")
        if isinstance(given, bool) or not 0 < number < 1:
            raise InputError(
                f"operating={given!r}; allowed are a probability above 0 and below 1, such as 0.5, 'youden', "
                "and 'sensitivity=.9'"
            )
        return cls(kind, number)

    @property
    def on_these_data(self) -> bool:
        """Whether the threshold is chosen on the samples it is applied to."""
        return self.kind != "given"

    def threshold(self, events: Bools, scores: Floats) -> float:
        """The log odds from which a sample is called positive.

        Parameters
        ----------
        events
            ``(N,)``; both values occur.
        scores
            ``(N,)`` log odds.
        """
        if self.kind == "given":
            return float(np.log(self.value / (1 - self.value)))
        if self.kind == "sensitivity":
            falling = np.sort(scores[events])[::-1]
            needed = int(np.ceil(self.value * len(falling) - 1e-9))
            return float(falling[needed - 1])
        order = np.argsort(-scores, kind="stable")
        hits, alarms = np.cumsum(events[order]), np.cumsum(~events[order])
        last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of equal scores
        youden = hits[last] / hits[-1] - alarms[last] / alarms[-1]
        return float(scores[order][last[youden.argmax()]])

    def __str__(self) -> str:
        if self.kind == "given":
            return "as given"
        chosen = "chosen on the audited samples, so that its figures are too good"
        if self.kind == "youden":
            return f"Youden's index (sensitivity plus specificity less one is largest), {chosen}"
        return f"a sensitivity of {self.value:g} over all audited samples, {chosen}"
