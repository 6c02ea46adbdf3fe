"""Which of several used concepts that hang together a network uses: the rules, from their partial effects.

Each of them was found used alone. With the others held fixed it stands, or another one that stands explains
it, or these samples cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shortcutscope.probes.together.held_fixed import PartialEffect
from shortcutscope.types import JSON, Record

Statement = Literal["beyond", "explained by", "cannot be told apart from", "one thing with"]

#: Share of the threshold of use that an effect must keep with the others held fixed.
STANDS = 0.5
#: Standard errors of an interval of 95 %, and those to it from what is found in four of five cases.
TWO_SIDED, POWER = 1.96, 0.84
#: Samples that must differ between two concepts for one of them to explain the other.
ENOUGH = 40
#: Samples that must differ for an effect of at least this size, in standard deviations of the logit, to be
#: told from that of the other concept in four of five cases. From .80 on, 20 do, but explain nothing yet.
DIFFERING: tuple[tuple[float, int], ...] = ((0.4, ENOUGH), (0.0, 100))
#: Cosine of two concepts' partial patterns from which they are one thing.
ONE_THING = 0.95
#: Names that a sentence lists.
SHOWN = 4


@dataclass(frozen=True)
class HeldFixed:
    """What taking a concept out changes with the others held fixed.

    Attributes
    ----------
    others, phi, differ, unknown
        See `shortcutscope.probes.together.held_fixed.Others`.
    partial
        In standard deviations of the logit within classes.
    """

    others: tuple[str, ...]
    phi: tuple[float, ...]
    differ: tuple[int, ...]
    unknown: tuple[str, ...]
    partial: PartialEffect

    def differing(self, names: Sequence[str]) -> int:
        """The fewest samples in which the concept differs from one of some others."""
        return min(n for other, n in zip(self.others, self.differ, strict=True) if other in names)


@dataclass(frozen=True)
class UsedConcepts:
    """Concepts that were found used, each alone.

    Attributes
    ----------
    alone
        Their effect with nothing held fixed.
    held
        Of those that go with others, the effect with these held fixed.
    threshold
        Of use.
    cosine
        Of the partial patterns of two concepts, see `shortcutscope.probes.together.partial_patterns`; asked
        for those that both stand.
    """

    alone: Mapping[str, float]
    held: Mapping[str, HeldFixed]
    threshold: float
    cosine: Callable[[str, str], float]

    def statements(self) -> dict[str, Record]:
        """Say of each what it is beside the others that it goes with.

        Returns
        -------
        dict
            Name to ``statement``, ``with`` (whom it is about), ``effect``, ``interval``, ``n_differ``,
            ``needed`` (further samples that differ, where it is open), ``held_fixed`` and ``not_held_fixed``;
            only of concepts that go with others. The statement is None where none of these could be held
            fixed.
        """
        return {n: self._say(n, self.held[n]) for n in self.alone if n in self.held}

    def _towards(self, name: str) -> float:
        """The effect with the others held fixed, positive in the direction of that alone."""
        return float(np.sign(self.alone[name])) * self.held[name].partial.effect

    def _stands(self, name: str) -> bool:
        if name not in self.alone:
            return False
        held = self.held.get(name)
        if held is None or not held.others:
            return True
        towards = self._towards(name)
        return towards >= STANDS * self.threshold and towards > TWO_SIDED * held.partial.error

    def _is_reversed(self, name: str) -> bool:
        """Whether it is used against the direction that it has alone, which was that of the others."""
        against = -self._towards(name)
        return against >= self.threshold and against > TWO_SIDED * self.held[name].partial.error

    def _say(self, name: str, held: HeldFixed) -> Record:
        if not held.others:
            return _record(held, None, [], None)
        if self._stands(name):
            twins = [z for z in held.others if self._stands(z) and self.cosine(name, z) >= ONE_THING]
            return _record(held, "one thing with" if twins else "beyond", twins or held.others, None)
        if self._is_reversed(name):
            return _record(held, "beyond", held.others, None)
        differ = dict(zip(held.others, held.differ, strict=True))
        explaining = [z for z in held.others if self._stands(z) and differ[z] >= ENOUGH]
        if explaining and self._towards(name) + TWO_SIDED * held.partial.error < self.threshold:
            return _record(held, "explained by", explaining, None)
        rivals = [z for z in held.others if z in self.alone] or list(held.others)
        return _record(held, "cannot be told apart from", rivals, self._needed(name, held.differing(rivals)))

    def _needed(self, name: str, differ: int) -> int | None:
        """Further samples that differ: as many as effects of this size need, or by the standard error.

        None where it is not a question of number: the others together determine the concept.
        """
        enough = next(n for size, n in DIFFERING if abs(self.alone[name]) >= size)
        if differ < enough:
            return enough - differ
        error, towards = self.held[name].partial.error, self._towards(name)
        if not np.isfinite(error):
            return None
        # Until the effect as measured is shown to be there, or to be below the threshold.
        distance = max(towards if towards >= STANDS * self.threshold else 0.0, self.threshold - towards)
        return max(1, int(np.ceil(differ * ((TWO_SIDED + POWER) * error / distance) ** 2)) - differ)


def _record(held: HeldFixed, statement: Statement | None, about: Sequence[str], needed: int | None) -> Record:
    is_measured = bool(held.others) and bool(np.isfinite(held.partial.error))
    return {
        "statement": statement,
        "with": list(about),
        "effect": held.partial.effect if is_measured else None,
        "interval": list(held.partial.interval) if is_measured else None,
        "n_differ": held.differing(about) if about else None,
        "needed": needed,
        "held_fixed": list(held.others),
        "not_held_fixed": list(held.unknown),
    }


def describe(beside: JSON) -> str:
    """A statement as a clause that goes on from the concept's name; empty where there is none.

    Examples
    --------
    >>> describe({"statement": "cannot be told apart from", "with": ["site"], "n_differ": 12, "needed": 28})
    'cannot be told apart from site: 12 samples differ, about 28 more are needed'
    """
    statement, names = beside.get("statement"), list(beside.get("with") or ())
    if not statement:
        return ""
    listed = " and ".join(filter(None, [", ".join(names[:SHOWN][:-1]), *names[:SHOWN][-1:]]))
    listed += f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    text = f"{statement} {listed}"
    if statement in ("beyond", "explained by"):
        start = f"used {text}" if statement == "beyond" else text
        return f"{start}: with {'it' if len(names) == 1 else 'them'} held fixed, {_effect(beside)}"
    if statement == "one thing with":
        return f"{text}: the network reads them alike"
    more = beside.get("needed")
    wish = "together they determine it" if more is None else f"about {more} more are needed"
    return f"{text}: {beside.get('n_differ')} samples differ, {wish}"


def _effect(beside: JSON) -> str:
    effect, (low, high) = beside.get("effect"), beside.get("interval") or (None, None)
    if effect is None or low is None or high is None:
        return "its effect is not known"
    return f"taking it out moves the logit by {effect:.2f} ({low:.2f} to {high:.2f})"
