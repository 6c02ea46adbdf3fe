"""In which order a person looks at masks, so that the first looks gain the most."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from shortcutscope.masks.mask_files import MaskEntry

if TYPE_CHECKING:
    from shortcutscope.masks.maskset import MaskSet

Order = Literal["benefit", "confidence", "area"]


def ordered(entries: Iterable[MaskEntry], order: Order | None = "benefit") -> list[MaskEntry]:
    """Sorted stably: what is equal stays as it came.

    Parameters
    ----------
    entries
        Of masks.
    order
        ``"benefit"``: not answered before answered, flagged before others, something inside before empty,
        then the least confident first, since a look is expected to gain how far a mask is expected to be
        from right; ``"confidence"``: the least confident first; ``"area"``: the largest first; None: as
        they came.
    """
    if order == "benefit":
        return sorted(entries, key=_benefit)
    if order == "confidence":
        return sorted(entries, key=lambda entry: entry.confidence or 0.0)
    return sorted(entries, key=lambda entry: -entry.share) if order == "area" else list(entries)


def review_order(masks: MaskSet) -> list[str]:
    """Ids of the flagged masks that nobody looked at, in the order ``"benefit"`` of :func:`ordered`.

    Examples
    --------
    >>> ss.review_order(ss.MaskSet.open("masks"))  # those that are flagged
    []
    """
    pending = (entry for entry in masks.entries if entry.flagged and entry.accepted is None)
    return [entry.sample_id for entry in ordered(pending)]


def _benefit(entry: MaskEntry) -> tuple[bool, bool, bool, float]:
    return entry.accepted is not None, not entry.flagged, entry.empty, entry.confidence or 0.0
