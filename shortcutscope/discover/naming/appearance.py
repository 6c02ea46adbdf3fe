"""The name that properties give: the one that tells carriers best, and those that tell them as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shortcutscope.discover.naming.ranking import PropertyScore, RankedProperties
from shortcutscope.discover.naming.words import EVEN, NOISE, SPEAKS, TONE, WORDS, shown, wording_of
from shortcutscope.types import Record

#: AUROC within label from which a property is a name, and the level of its p value over all properties.
LEAST, LEVEL = 0.65, 0.01
#: Properties tell about as well whose AUROC is above .5 by up to this share less than that of the best one.
TIE = 0.15
#: Tone comes first of those that tell about as well where its effect is at least this share of the largest.
TONE_FIRST = 0.4
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
    ranking: RankedProperties

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


def appearance_of(ranking: RankedProperties, *, localized: bool = False) -> Appearance:
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


def _why_none(ranking: RankedProperties, *, localized: bool) -> str:
    if localized:
        return "it is confined to a part of the image, which no property of the whole names: see the pictures"
    if ranking.p is None:
        return "no label has enough patients with it and without it to compare"
    best = next(score for score in ranking.scores if wording_of(score.name).names)
    if ranking.p > LEVEL or best.strength < LEAST:
        words = wording_of(best.name)
        return (
            "no property of picture or file tells carriers from others of their label; nearest is "
            f"{words.noun or best.name} (AUROC {best.strength:.2f})"
        )
    return ""


def telling(scores: Sequence[PropertyScore]) -> list[PropertyScore]:
    """The best property and those that tell about as well, one of each family, `MOST` at most.

    Of these the tone of the whole comes first, from which much else follows (what is clipped loses contrast),
    and then the one with the largest effect: where several tell without error, they differ in by how much.
    """
    naming = [score for score in scores if wording_of(score.name).names]
    reach = max(score.strength for score in naming) - 0.5
    families: dict[tuple[str, bool], list[PropertyScore]] = {}
    for score in naming:
        if score.strength >= 0.5 + (1 - TIE) * reach:
            families.setdefault((wording_of(score.name).family, score.auroc > 0.5), []).append(score)
    effects = {family: max(abs(s.effect) for s in members) for family, members in families.items()}
    enough = TONE_FIRST * max(effects.values())

    def order(family: tuple[str, bool]) -> tuple[bool, float]:
        return family[0] in TONE and effects[family] >= enough, effects[family]

    ranked = sorted(families, key=order, reverse=True)
    even = any(score.name == EVEN and score.auroc > LEAST for score in scores)
    return [_speaker(family, families[family], even=even) for family in ranked[:MOST]]


def _speaker(family: tuple[str, bool], members: Sequence[PropertyScore], *, even: bool) -> PropertyScore:
    """The property of a family that speaks for those that tell as well."""
    by_name = {score.name: score for score in members}
    if even and family[1] and NOISE in by_name:
        return by_name[NOISE]
    return by_name[next(name for name in (*SPEAKS.get(family, ()), *WORDS, *by_name) if name in by_name)]
