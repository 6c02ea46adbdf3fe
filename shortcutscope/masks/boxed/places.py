"""Which places of an image are drawn: the surest one by its null, and further ones as boxed images show them.

The highest score of an image without the element follows a known law (`retrieval.detecting.null`). An image
whose surest place is higher than all but a few of these, and than what unmarked images show that is no chance
(`limits`), has it. Of such an image less is asked of the next
place, since elements come together: letters beside a marker, the word below the initials. But no more
places of a kind are drawn than any boxed image shows of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shortcutscope.masks.boxed.limits import ALARMS, CHANCE
from shortcutscope.retrieval.detecting.detector import Detector
from shortcutscope.retrieval.detecting.null import false_share
from shortcutscope.retrieval.detecting.templates import Box, Film, Found

#: Share of images without the artifact whose further places would be drawn.
COMPANIONS = 0.15


@dataclass(frozen=True)
class Place:
    """A place that is drawn.

    Attributes
    ----------
    kind
        Number of the kind of element.
    box
        In pixels of the working image.
    sure
        Share of the images without the element that show nothing as high.
    """

    kind: int
    box: Box
    sure: float


@dataclass(frozen=True)
class Places:
    """What an image shows.

    Attributes
    ----------
    score
        Of the surest place, in units of the null of its kind.
    false
        Share of the images without the artifact that score as high.
    drawn
        Places, surest first; none where the image may be free of it.
    """

    score: float
    false: float
    drawn: tuple[Place, ...]

    @property
    def present(self) -> bool:
        """Whether anything is drawn."""
        return bool(self.drawn)


def places_of(detector: Detector, film: Film, most: Sequence[int], limit: float = float("-inf")) -> Places:
    """Search an image.

    Parameters
    ----------
    detector
        In units of its null.
    film
        The image.
    most
        Of each kind how many elements an image has at most.
    limit
        Score that the surest place has to exceed, beside that of chance, see `limits.limit_of`.
    """
    candidates = [
        (place, kind) for kind, template in enumerate(detector.templates) for place in template.search(film)
    ]
    candidates.sort(key=lambda one: -one[0].score)
    best = candidates[0][0].score
    false = float(false_share(best, len(detector.templates)))
    if false > CHANCE or best <= limit:
        return Places(best, false, ())
    return Places(best, false, _drawn(candidates, most, len(detector.templates)))


def _drawn(candidates: Sequence[tuple[Found, int]], most: Sequence[int], kinds: int) -> tuple[Place, ...]:
    """Surest first, none twice."""
    drawn: list[Place] = []
    count: Counter[int] = Counter()
    for place, kind in candidates:
        single = float(false_share(place.score, 1))
        if single > COMPANIONS:
            break
        beyond = count[kind] >= most[kind] and float(false_share(place.score, kinds)) > ALARMS
        if beyond or any(_inside(place.box, one.box) for one in drawn):
            continue
        count[kind] += 1
        drawn.append(Place(kind, place.box, 1 - single))
    return tuple(drawn)


def _inside(box: Box, other: Box) -> bool:
    """Whether the middle of a box lies in another."""
    x, y = float(np.mean(box[0::2])), float(np.mean(box[1::2]))
    return other[0] <= x < other[2] and other[1] <= y < other[3]
