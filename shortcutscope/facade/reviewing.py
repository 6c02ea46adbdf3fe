"""What a person accepts and rejects, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, TypedDict, Unpack

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.retrieval.hits import Hits
from shortcutscope.review.hits import review_hits
from shortcutscope.review.masks import review_masks
from shortcutscope.review.order import Order

if TYPE_CHECKING:
    from anywidget import AnyWidget

__all__ = ["review"]


class ReviewOptions(TypedDict, total=False):
    """Who reviews, and of masks which ones and how they are shown."""

    who: str
    when: str
    samples: Sequence[str] | None
    order: Order | None
    count: int | None
    opacity: float


@singledispatch
def review(what: Hits | MaskSet, *data: ImageTable, **options: Unpack[ReviewOptions]) -> AnyWidget:
    """A grid in Jupyter in which a person accepts and rejects, by click or by keyboard.

    ``review(hits)`` hands the answers to the retrieval that the hits came from, see
    `shortcutscope.review.hits.review_hits`; ``review(masks, data)`` keeps them with the masks, see
    `shortcutscope.review.masks.review_masks`. Needs the extra ``jupyter``.

    Raises
    ------
    InputError
        For anything else.

    Examples
    --------
    >>> ss.review(finding.retrieve(60, images=data))  # doctest: +SKIP
    >>> ss.review(masks, data)  # doctest: +SKIP
    """
    raise InputError(f"what can be reviewed are Hits and a MaskSet, not {type(what).__name__}")


review.register(Hits, review_hits)
review.register(MaskSet, review_masks)
