"""A grid in Jupyter in which a person accepts and rejects hits, by click or by keyboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shortcutscope.data.pictures import Picture
from shortcutscope.errors import InputError
from shortcutscope.retrieval.hits import SIDE, Hits, picture_uri
from shortcutscope.review.grid import review_grid
from shortcutscope.types import Record

if TYPE_CHECKING:
    from anywidget import AnyWidget

_WORDS = {
    "keys": "Click to change; arrows move, a carrier, r free of it, u undo",
    "samples": "hits",
    "button": "Use these marks",
    "accept": "carrier",
    "reject": "free of it",
    "open": "not marked",
    "accepted": "carriers",
    "rejected": "free of it",
}


def review_hits(hits: Hits, *, who: str = "", when: str = "") -> AnyWidget:
    """Show hits in a grid to accept and reject.

    Click a picture, or move with the arrow keys and press ``a`` (carries it), ``r`` (free of it) or ``u``
    (undo). The button "Use these marks" hands the answers to the retrieval that the hits came from.

    Parameters
    ----------
    hits
        Of a retrieval.
    who, when
        Kept with the marks.

    Returns
    -------
    widget
        ``answers`` maps sample id to True or False; ``submit()`` does what the button does; ``message`` is
        what the button said last.

    Raises
    ------
    InputError
        Without the extra ``jupyter``, or for empty hits.
    """
    if not len(hits):
        raise InputError("there are no hits to review; retrieve with k of at least 1")
    return review_grid(
        _HitReview(hits, who, when),
        _items(hits),
        {"question": f'Does it carry "{hits.name}"?', **_WORDS},
        instead="write the hits with to_csv(), fill the column mark, and read them with shortcutscope "
        "retrieve --marks",
    )


@dataclass(frozen=True)
class _HitReview:
    """Gives answers to the retrieval, which ranks again."""

    hits: Hits
    who: str
    when: str

    def take(self, answers: dict[str, bool | None]) -> str:
        retrieval = self.hits.retrieval
        if not answers:
            return "No sample is marked yet."
        if retrieval is None:
            return (
                f"{len(answers)} marks are in .answers; these hits come from the disk and have no "
                "retrieval to give them to."
            )
        retrieval.mark(answers, who=self.who, when=self.when)
        return f"{len(answers)} marks taken. {retrieval.advice}"


def _items(hits: Hits) -> list[Record]:
    return [_item(row, hits.pictures.get(str(row["sample_id"]))) for row in hits.frame.to_dict("records")]


def _item(row: Mapping[Any, Any], picture: Picture | None) -> Record:
    return {
        "id": str(row["sample_id"]),
        "caption": f"{row['rank']}. {row['sample_id']}",
        "score": f"{row['score']:.2f}",
        "src": "" if picture is None else picture_uri(picture),
        "wide": picture is not None and picture.shape[1] > SIDE,
        "mark": {1.0: True, 0.0: False}.get(row["mark"]),
    }
