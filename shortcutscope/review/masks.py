"""A grid in Jupyter in which a person accepts and rejects masks, drawn over their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from shortcutscope.errors import InputError
from shortcutscope.masks.mask_files import MaskEntry
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.retrieval.marks import Marks
from shortcutscope.review.drawn import Boxes
from shortcutscope.review.grid import review_grid
from shortcutscope.review.mask_pictures import MaskPicture, mask_pictures
from shortcutscope.review.order import Order, ordered
from shortcutscope.show.parts import picture_uri
from shortcutscope.types import Record

if TYPE_CHECKING:
    from anywidget import AnyWidget

    from shortcutscope.data.table import ImageTable

#: Masks in a grid, unless another number is asked for.
COUNT = 60
#: Every answer that was given, in the folder of the masks; ``masks.json`` has those that count.
ANSWERS = "reviews.csv"
_WORDS = {
    "keys": "Click to change; arrows move, a accept, r reject, u undo, m masks on and off, z larger",
    "enlarged": "a accept, r reject, u undo, m mask on and off, arrows to the next, Escape back",
    "samples": "masks",
    "button": "Keep these answers",
    "accept": "accepted",
    "reject": "rejected",
    "open": "not answered",
    "accepted": "accepted",
    "rejected": "rejected",
}


def review_masks(
    masks: MaskSet,
    table: ImageTable,
    *,
    samples: Sequence[str] | None = None,
    order: Order | None = "benefit",
    count: int | None = COUNT,
    opacity: float = 0.5,
    who: str = "",
    when: str = "",
) -> AnyWidget:
    """Show masks over their images in a grid to accept and reject.

    Click a picture, or move with the arrow keys and press ``a`` (accept), ``r`` (reject) or ``u`` (undo; a
    second time takes back what was answered before); ``m`` switches the masks on and off. The button keeps
    the answers with the masks on the disk.

    Parameters
    ----------
    masks
        Finished masks of images, volumes or signals.
    table
        Their images. Without `samples`, masks whose images the table lacks are left out.
    samples
        Ids of those to show; None for all.
    order
        ``"benefit"``: not answered before answered, flagged before others, something inside before empty,
        then the least confident first; ``"confidence"``: the least confident first; ``"area"``: the largest
        first; None: as they are given.
    count
        At most so many are shown, the first of that order; None for all.
    opacity
        Of the masks to begin with, 0 to 1; a slider changes it for all.
    who, when
        Kept with the answers in ``reviews.csv`` beside the masks; nothing is filled in.

    Returns
    -------
    widget
        ``answers`` maps sample id to True, False, or None (taken back); ``submit()`` does what the button
        does; ``message`` is what the button said last; ``recipient.masks`` is the reviewed set.

    Raises
    ------
    InputError
        Without the extra ``jupyter``; for unfinished masks, samples without a mask or image, masks of
        another size than their image, another order or opacity, or when there is nothing to show.
    """
    _check(masks, order, opacity, count)
    entries = ordered(_entries(masks, table, samples), order)
    ids = [entry.sample_id for entry in entries[:count]]
    part = f" ({len(ids)} of {len(entries)} masks)" if len(ids) < len(entries) else ""
    return review_grid(
        MaskReview(masks, ids, who, when),
        [_item(k, picture) for k, picture in enumerate(mask_pictures(masks, table, ids), 1)],
        {"question": f'Is this "{masks.name}", and no more?{part}', **_WORDS},
        instead="export the masks to a tool for annotation, and read them in again",
        opacity=float(opacity),
        takes_back=True,
    )


def _check(masks: MaskSet, order: Order | None, opacity: float, count: int | None) -> None:
    if order is not None and order not in get_args(Order):
        raise InputError(f"order must be one of {', '.join(get_args(Order))} or None, not {order!r}")
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity must lie between 0 and 1, not {opacity}")
    if count is not None and count < 1:
        raise InputError(f"count must be at least 1, or None for all masks, not {count}")
    if not masks.complete:
        raise InputError(f"the masks in {masks.folder} are not finished; make them to the end first")


class MaskReview:
    """Keeps answers about masks on the disk.

    Parameters
    ----------
    masks
        That are reviewed.
    ids
        Ids of those that can be answered.
    who, when
        Of the answers.

    Attributes
    ----------
    masks
        With the answers that were kept so far.
    """

    def __init__(self, masks: MaskSet, ids: Sequence[str], who: str = "", when: str = "") -> None:
        self.masks = masks
        self._who, self._when = who, when
        self._before = {name: masks.entry(name).accepted for name in ids}
        self._kept = dict(self._before)

    def take(self, answers: dict[str, bool | None], boxes: Boxes | None = None) -> str:
        """Keep the answers; what was kept earlier and is no longer among them is taken back.

        Boxes are not drawn on masks.

        Raises
        ------
        InputError
            When the masks on the disk cannot be changed.
        """
        target = {**self._before, **answers}
        changed = {name: value for name, value in target.items() if value is not self._kept[name]}
        if not changed:
            return "No answer is new."
        log = self.masks.folder / ANSWERS
        answered = Marks.open(log).after(changed, who=self._who, when=self._when)
        self.masks = self.masks.reviewed(changed)
        answered.save(log)
        self._kept = target
        counts = [sum(e.accepted is value for e in self.masks.entries) for value in (True, False, None)]
        return (
            f"{len(changed)} answer{'s' * (len(changed) != 1)} kept in {self.masks.folder}. Of all masks: "
            "{} accepted, {} rejected, {} open.".format(*counts)
        )


def _entries(masks: MaskSet, table: ImageTable, samples: Sequence[str] | None) -> list[MaskEntry]:
    if samples is not None:
        entries = [masks.entry(name) for name in dict.fromkeys(map(str, samples))]
    else:
        ids = set(table.frame["sample_id"].astype(str))
        entries = [entry for entry in masks.entries if entry.sample_id in ids]
    if not entries:
        raise InputError("there are no masks to review of images in this table")
    return entries


def _item(rank: int, picture: MaskPicture) -> Record:
    entry = picture.entry
    return {
        "id": entry.sample_id,
        "caption": f"{rank}. {entry.sample_id}",
        "score": ", ".join(picture.words),
        "src": picture_uri(picture.picture),
        "mark": entry.accepted,
        "overlay": {"size": list(picture.size), "path": picture.path},
    }
