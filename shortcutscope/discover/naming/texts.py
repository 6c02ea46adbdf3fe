"""The name that a model of images and texts gives: the text that carriers are nearer to than others are."""

from __future__ import annotations

from dataclasses import dataclass

from shortcutscope.discover.naming.appearance import LEAST, LEVEL, LISTED, MOST, TIE
from shortcutscope.discover.naming.ranking import PropertyScore, RankedProperties
from shortcutscope.types import JSON, Record


@dataclass(frozen=True)
class TextName:
    """Which texts carriers of a finding are nearer to than others of their label.

    Attributes
    ----------
    names
        The best first, then those that tell about as well; empty for no name.
    margin
        By how much the AUROC of the best is above that of the next text; None of no name.
    why
        Why there is none; empty where there is one.
    ranking
        Of all texts.
    """

    names: tuple[PropertyScore, ...]
    margin: float | None
    why: str
    ranking: RankedProperties

    def to_dict(self) -> Record:
        """As it stands in ``findings.json``."""
        return {
            "names": [score.name for score in self.names],
            "margin": self.margin,
            "why": self.why,
            "texts": [
                {"text": score.name, "auroc": score.auroc, "p": score.p}
                for score in nearer(self.ranking)[:LISTED]
            ],
        }


def nearer(ranking: RankedProperties) -> list[PropertyScore]:
    """The texts that carriers are nearer to, the best first; to be farther from one is no name."""
    return [score for score in ranking.scores if score.auroc > 0.5]


def text_name_of(ranking: RankedProperties) -> TextName:
    """Name a finding by texts, where some tell and not too many do.

    Parameters
    ----------
    ranking
        Of how near each image is to each text, as `rank_properties` ranks properties.

    Examples
    --------
    >>> from shortcutscope.discover.naming.ranking import PropertyScore
    >>> scores = [PropertyScore(*x, 1.0, 5.0, 0.1, 0.0, p=0.001) for x in (("a ruler", 0.94), ("hair", 0.6))]
    >>> name = text_name_of(RankedProperties(tuple(scores), 0.001, 30, 60))
    >>> name.names[0].name, round(name.margin, 2)
    ('a ruler', 0.34)
    """
    if ranking.p is None:
        return TextName((), None, "no label has enough patients with it and without it to compare", ranking)
    towards = nearer(ranking)
    if not towards or towards[0].strength < LEAST or not towards[0].p <= LEVEL:
        nearest = f"; nearest is “{towards[0].name}” (AUROC {towards[0].auroc:.2f})" if towards else ""
        return TextName((), None, f"no text tells carriers from others of their label{nearest}", ranking)
    best = towards[0]
    alike = [score for score in towards if score.strength >= 0.5 + (1 - TIE) * (best.strength - 0.5)]
    if len(alike) > MOST:
        return TextName(
            (),
            None,
            f"{len(alike)} texts tell about as well as “{best.name}” (AUROC {best.auroc:.2f})",
            ranking,
        )
    margin = best.strength - max((s.strength for s in towards[1:]), default=0.5)
    return TextName(tuple(alike), round(margin, 9), "", ranking)


def words_of(appearance: JSON) -> list[str]:
    """The names of a finding in a word or two, of properties or else of texts, from ``findings.json``.

    Examples
    --------
    >>> words_of({"names": [], "text": {"names": ["a ruler"]}})
    ['like “a ruler”']
    """
    named = [str(name["word"]) for name in appearance.get("names") or ()]
    return named or _like(appearance)


def looks_of(appearance: JSON) -> str:
    """The same with numbers, ``"darker: mean grey 0.45 against 0.63"``; empty where nothing tells.

    Examples
    --------
    >>> looks_of({"names": [{"word": "darker", "numbers": "mean grey 0.45 against 0.63"}]})
    'darker: mean grey 0.45 against 0.63'
    """
    named = [f"{name['word']}: {name['numbers']}" for name in appearance.get("names") or ()]
    return "; ".join(named or _like(appearance))


def _like(appearance: JSON) -> list[str]:
    names = (appearance.get("text") or {}).get("names") or ()
    return [f"like {' or '.join(f'“{name}”' for name in names)}"] if names else []
