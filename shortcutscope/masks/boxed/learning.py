"""What draws boxed elements: detectors and the pixels of each kind, by fold, taught without the fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from shortcutscope.data.table import ImageTable
from shortcutscope.masks.boxed.limits import CHANCE, limit_of
from shortcutscope.masks.boxed.pixels import PlacePixels
from shortcutscope.masks.boxed.places import Places, places_of
from shortcutscope.masks.drawing import WHETHER, MaskPrediction
from shortcutscope.masks.mask_files import Mask
from shortcutscope.masks.presence import require_separable
from shortcutscope.masks.thresholds import Threshold
from shortcutscope.retrieval.detecting.detection import ALL, Where
from shortcutscope.retrieval.detecting.teaching import Taught, teach

#: Share of images without the artifact that score higher, up to which nobody can tell, where marked carriers
#: lie as low.
DOUBT = 0.2
#: Images that pixels are compared with.
COMPARED = 20
#: Fewest marked others that carriers are compared with; with fewer, unmarked images stand for them.
FEWEST_OTHERS = 5
_NONE = float("-inf")


@dataclass(frozen=True, eq=False)
class BoxedPredictor:
    """What draws masks of boxed elements, in the pixels of the files.

    Attributes
    ----------
    taught
        Detectors by fold.
    most
        By fold, of each kind how many elements an image has at most.
    pixels
        By fold, of each kind what tells its pixels.
    carriers, others
        Row to the score of each marked carrier with boxes, and of each other, by what was taught without it.
    """

    taught: Taught
    most: Mapping[int, Sequence[int]]
    pixels: Mapping[int, Sequence[PlacePixels]]
    carriers: Mapping[int, float]
    others: Mapping[int, float]

    @classmethod
    def fit(
        cls,
        images: ImageTable,
        where: Where,
        groups: npt.ArrayLike,
        *,
        threshold: Threshold = "otsu",
        seed: int = 0,
        progress: bool = True,
    ) -> BoxedPredictor:
        """Learn from boxes; arguments as of `shortcutscope.retrieval.detecting.teaching.teach`."""
        taught = teach(images, where, groups, seed=seed, progress=progress)
        most = {fold: taught.most(fold) for fold in taught.kinds}
        predictor = cls(taught, most, _pixels(images, where, taught, threshold), {}, {})
        measured = [
            {row: predictor.places(images.image(row), row).score for row in rows}
            for rows in (where.boxes, where.others)
        ]
        # A copy, whose limits follow from these scores.
        return replace(predictor, carriers=measured[0], others=measured[1])

    def require_told_apart(self, name: str) -> None:
        """Refuse boxes whose carriers are not told from others by what was taught without them.

        Raises
        ------
        InputError
            With what was measured.
        """
        carriers, others = [*self.carriers.values()], [*self.others.values()]
        if len(others) < FEWEST_OTHERS:
            others += self.taught.null_scores.tolist()
        concept = np.repeat([1, 0], [len(carriers), len(others)])
        require_separable(np.array([*carriers, *others]), concept, name)

    def places(self, image: Tensor, row: int) -> Places:
        """What the image ``(C, H, W)`` of a row shows."""
        fold = self.taught.fold(row)
        detector = self.taught.detectors[fold]
        return places_of(detector, detector.film(image), self.most[fold], self._limits.get(fold, _NONE))

    @cached_property
    def _limits(self) -> Mapping[int, float]:
        """By fold the limit of what has it; a fold's by the carriers of the others."""
        of_others = {
            fold: [score for row, score in self.carriers.items() if self.taught.fold(row) != fold]
            for fold in self.taught.kinds
        }
        return {
            fold: limit_of(self.taught.null_scores, np.array(scores), len(self.taught.kinds[fold]))
            for fold, scores in of_others.items()
        }

    def predict(self, image: Tensor, row: int) -> MaskPrediction:
        """Mask of the image ``(C, H, W)`` of a row, in the size of its file."""
        places = self.places(image, row)
        size = (int(image.shape[1]), int(image.shape[2]))
        mask, heat = np.zeros(size, np.bool_), np.zeros(size, np.float32)
        if not places.present:
            return MaskPrediction(mask, heat, 1 - places.false, *self._absent(places))
        parts = self._parts(places, image, row)
        for part, sure in parts:
            mask |= part
            heat = np.maximum(heat, np.where(part, np.float32(sure), 0), dtype=np.float32)
        areas = [float(part.sum()) + 1 for part, _ in parts]
        confidence = float(np.average([sure for _, sure in parts], weights=areas))
        return MaskPrediction(mask, heat, 1 - places.false, confidence)

    def _absent(self, places: Places) -> tuple[float, str | None]:
        """How sure it is that an image is free of it, and what cannot be told.

        As many images without it score as high as `false` says, and as few marked carriers as low.
        """
        carriers = np.array([*self.carriers.values()])
        missed = (1 + int((carriers <= places.score).sum())) / (1 + len(carriers))
        as_low = len(carriers) > 0 and places.score >= carriers.min()
        sure = places.false / (places.false + missed)
        doubtful = places.false <= CHANCE or (as_low and places.false <= DOUBT)
        return sure, WHETHER if doubtful else None

    def _parts(self, places: Places, image: Tensor, row: int) -> list[tuple[Mask, float]]:
        """Mask of each place, and how sure it is."""
        fold, size = self.taught.fold(row), (int(image.shape[1]), int(image.shape[2]))
        working, parts = self.taught.detectors[fold].working, []
        for place in places.drawn:
            box = working.to_file(place.box, size)
            mask, clear = self.pixels[fold][place.kind].mask(image, box)
            parts.append((mask, place.sure * clear))
        return parts


def _pixels(
    images: ImageTable, where: Where, taught: Taught, threshold: Threshold
) -> dict[int, list[PlacePixels]]:
    rows_shown = {row for kind in taught.kinds[ALL] for row, _ in kind}
    compared = [*where.others, *taught.null][:COMPARED]
    pictures = {row: images.image(row).float() for row in {*rows_shown, *compared}}

    def of(fold: int, kind: Sequence[tuple[int, tuple[float, float, float, float]]]) -> PlacePixels:
        boxed = [(pictures[row], box) for row, box in kind]
        others = [pictures[row] for row in compared if fold == ALL or taught.fold(row) != fold]
        return PlacePixels.fit(boxed, others, threshold)

    return {fold: [of(fold, kind) for kind in kinds] for fold, kinds in taught.kinds.items()}
