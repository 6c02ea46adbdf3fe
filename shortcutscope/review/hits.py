"""A grid in Jupyter in which a person accepts and rejects hits, by click or by keyboard, and draws where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shortcutscope.data.pictures import Picture
from shortcutscope.errors import InputError
from shortcutscope.retrieval.hits import SIDE, Hits
from shortcutscope.retrieval.places import EDGES
from shortcutscope.review.drawn import Boxes
from shortcutscope.review.file_pictures import FilePictures
from shortcutscope.review.grid import review_grid
from shortcutscope.show.parts import picture_uri
from shortcutscope.types import Record

if TYPE_CHECKING:
    from anywidget import AnyWidget

_WORDS = {
    "keys": "Click to change; arrows move, a carrier, r free of it, u undo, z larger",
    "enlarged": "a carrier, r free of it, u undo, arrows to the next, Escape back",
    "drawing": "Drag a box around it, or click on it; by keyboard b begins a box, arrows move it, Shift and "
    "arrows size it, Enter keeps it. p takes the dashed proposal, Delete removes the last box. a carrier, "
    "r free of it, u undo, arrows to the next, Escape back",
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
    (undo). ``z`` shows one picture larger. Where the retrieval has images, a box around the thing, drawn with
    the mouse in the grid or on the larger picture, or by keyboard (``b``), marks a carrier and says where; a
    click on the larger picture is a point. The button "Use these marks" hands the answers to the retrieval
    that the hits came from.

    Parameters
    ----------
    hits
        Of a retrieval.
    who, when
        Kept with the marks.

    Returns
    -------
    widget
        ``answers`` maps sample id to True or False, ``boxes`` to what was drawn in pixels of the file;
        ``submit()`` does what the button does; ``message`` is what the button said last.

    Raises
    ------
    InputError
        Without the extra ``jupyter``, or for empty hits.
    """
    if not len(hits):
        raise InputError("there are no hits to review; retrieve with k of at least 1")
    pictures = FilePictures.of(hits)
    return review_grid(
        _HitReview(hits, who, when),
        _items(hits, pictures),
        {"question": f'Does it carry "{hits.name}"?', **_WORDS},
        instead="write the hits with to_csv(), fill the column mark, and read them with shortcutscope "
        "retrieve --marks",
        larger=None if pictures is None else pictures.whole,
    )


@dataclass(frozen=True)
class _HitReview:
    """Gives answers to the retrieval, which ranks again."""

    hits: Hits
    who: str
    when: str

    def take(self, answers: dict[str, bool | None], boxes: Boxes) -> str:
        retrieval = self.hits.retrieval
        if not answers and not boxes:
            return "No sample is marked yet."
        if retrieval is None:
            return (
                f"{len(answers)} marks are in .answers; these hits come from the disk and have no "
                "retrieval to give them to."
            )
        retrieval.mark(answers, boxes=boxes, who=self.who, when=self.when)
        number = sum(map(len, boxes.values()))
        drawn = f" and {number} box{'es' * (number != 1)}" if number else ""
        return f"{len(answers)} marks{drawn} taken. {retrieval.advice}"


def _items(hits: Hits, pictures: FilePictures | None) -> list[Record]:
    items = []
    for row in hits.frame.to_dict("records"):
        name = str(row["sample_id"])
        shown = hits.pictures.get(name) if pictures is None else pictures.small(name)
        item = _item(row, shown)
        if pictures is not None:
            item["file"] = {"size": pictures.sizes[name], "boxes": pictures.boxes(name), "place": _place(row)}
        items.append(item)
    return items


def _place(row: Mapping[Any, Any]) -> list[float] | None:
    """The surest place, where a detector has searched."""
    edges = [float(row.get(edge, float("nan"))) for edge in EDGES]
    return None if any(edge != edge for edge in edges) else edges


def _item(row: Mapping[Any, Any], picture: Picture | None) -> Record:
    return {
        "id": str(row["sample_id"]),
        "caption": f"{row['rank']}. {row['sample_id']}",
        "score": f"{row['score']:.2f}",
        "src": "" if picture is None else picture_uri(picture),
        "wide": picture is not None and picture.shape[1] > SIDE,
        "mark": {1.0: True, 0.0: False}.get(row["mark"]),
    }
