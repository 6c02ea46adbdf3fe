"""The name that properties give: the one that tells carriers best, and those that tell them as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shortcutscope.discover.naming.ranking import PropertyScore, Ranking
from shortcutscope.discover.naming.words import WORDS, shown, wording_of
from shortcutscope.types import Record

#: AUROC within label from which a property is a name, and the level of its p value over all properties.
LEAST, LEVEL = 0.65, 0.01
#: Properties whose AUROC is lower by up to this are as good as the best.
TIE = 0.03
#: Names that are given at most.
MOST = 3
#: Properties that are listed.
LISTED = 8


@dataclass(frozen=True)
class Name:
    """One property as a name.

    Attributes
    ----------
    word
        What carriers are: ``"darker"``.
    numbers
        By how much: ``"mean grey 0.45 against 0.63"``.
    score
        That it rests on.
    """

    word: str
    numbers: str
    score: PropertyScore

    def __str__(self) -> str:
        return f"{self.word}: {self.numbers}"

    def to_dict(self) -> Record:
        """As it stands in ``findings.json``."""
        return {"word": self.word, "numbers": self.numbers, **_values(self.score)}


@dataclass(frozen=True)
class Appearance:
    """What carriers of a finding look like beside others of their label.

    Attributes
    ----------
    names
        The best first, then those that tell as well; empty where nothing tells.
    why
        Why there are none; empty where there are.
    ranking
        Of all properties.
    """

    names: tuple[Name, ...]
    why: str
    ranking: Ranking

    def to_dict(self) -> Record:
        """As it stands in ``findings.json``."""
        ranking = self.ranking
        return {
            "names": [name.to_dict() for name in self.names],
            "why": self.why,
            "p": ranking.p,
            "carriers": ranking.carriers,
            "others": ranking.others,
            "properties": [_values(score) for score in ranking.scores[:LISTED]],
        }


def _values(score: PropertyScore) -> Record:
    return {
        "property": score.name,
        "auroc": score.auroc,
        "effect": score.effect,
        "carriers": score.carriers,
        "others": score.others,
    }


def name_of(score: PropertyScore) -> Name:
    """A property in words and numbers.

    Examples
    --------
    >>> str(name_of(PropertyScore("mean grey", 0.03, -2.0, -9.0, 0.447, 0.63)))
    'darker: mean grey 0.45 against 0.63'
    """
    words = wording_of(score.name)
    numbers = f"{shown(score.carriers, words.form)} against {shown(score.others, words.form)}"
    return Name(
        words.more if score.auroc > 0.5 else words.less,
        f"{words.noun or score.name.removeprefix('file_').replace('_', ' ')} {numbers}",
        score,
    )


def appearance_of(ranking: Ranking, *, localized: bool = False) -> Appearance:
    """Name a finding by its ranked properties, where they tell.

    Parameters
    ----------
    ranking
        Of all properties.
    localized
        Whether it is confined to a part of the image, of which properties of the whole say nothing.
    """
    why = _why_none(ranking, localized=localized)
    if why:
        return Appearance((), why, ranking)
    return Appearance(tuple(name_of(score) for score in telling(ranking.scores)), "", ranking)


def _why_none(ranking: Ranking, *, localized: bool) -> str:
    if localized:
        return "it is confined to a part of the image, which no property of the whole names: see the pictures"
    if ranking.p is None:
        return "no label has enough patients with it and without it to compare"
    best = ranking.scores[0]
    if ranking.p > LEVEL or best.strength < LEAST:
        words = wording_of(best.name)
        return (
            "no property of picture or file tells carriers from others of their label; nearest is "
            f"{words.noun or best.name} (AUROC {best.strength:.2f})"
        )
    return ""


def telling(scores: Sequence[PropertyScore]) -> list[PropertyScore]:
    """The best property and those that tell as well, one of each family, `MOST` at most.

    Of those that are as good the one with the largest effect comes first: where several tell without error,
    they differ in by how much.
    """
    limit = scores[0].strength - TIE
    order = {name: k for k, name in enumerate(WORDS)}
    families: dict[str, list[PropertyScore]] = {}
    for score in scores:
        if score.strength >= limit:
            families.setdefault(wording_of(score.name).family, []).append(score)

    def best(members: Sequence[PropertyScore]) -> tuple[float, float]:
        return max((round(s.strength, 2), abs(s.effect)) for s in members)

    ranked = sorted(families.values(), key=best, reverse=True)
    return [min(members, key=lambda s: order.get(s.name, len(order))) for members in ranked[:MOST]]
