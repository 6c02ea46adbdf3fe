"""Which of the mined crops a person goes on with."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shortcutscope.errors import InputError
from shortcutscope.retrieval.detecting.detection import Detection, Kind


def kept_kinds(
    detection: Detection | None, kinds: Collection[int], crops: Collection[int], *, drop: bool = False
) -> list[Kind]:
    """Some of the mined crops, kind by kind.

    Parameters
    ----------
    detection
        That mined them.
    kinds, crops
        Numbers of kinds, and of single crops, counted through all kinds.
    drop
        Whether these are left out of those that are searched for.

    Raises
    ------
    InputError
        Without mined crops, for numbers that there are not, for none, and where no crop is left.
    """
    verb = "drop" if drop else "keep"
    if detection is None or detection.boxed:
        raise InputError(
            f"{verb}() chooses among mined patches, and there are none: box a few in place of it"
        )
    offered = detection.kinds if drop else detection.offered
    numbered = _numbered(offered)
    for given, count in ((kinds, len(offered)), (crops, len(numbered))):
        if any(number not in range(count) for number in given):
            raise InputError(f"{verb}({list(given)}); allowed are some of {list(range(count))}")
    if not kinds and not crops:
        raise InputError(f"{verb}() was given neither kinds nor crops; look at retrieval.crops for both")
    chosen: dict[int, Kind] = {}
    for number, (kind, crop) in enumerate(numbered):
        if (kind in kinds or number in crops) != drop:
            chosen.setdefault(kind, []).append(crop)
    if not chosen:
        raise InputError(f"{verb}() leaves no crop: box the artifact on a few samples in place of it")
    return list(chosen.values())


def _numbered(kinds: Sequence[Kind]) -> list[tuple[int, tuple[int, tuple[float, float, float, float]]]]:
    return [(number, crop) for number, kind in enumerate(kinds) for crop in kind]
