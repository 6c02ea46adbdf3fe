"""Masks of what was boxed on a few images, for any number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import nn

from shortcutscope.data.file_images import in_file_size
from shortcutscope.data.sample_geometry import image_name
from shortcutscope.data.stored_frame import stored_frame
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.boxed.held_out import BOXES, EVIDENCE, HeldOutFigures, held_out
from shortcutscope.masks.boxed.learning import BoxedPredictor
from shortcutscope.masks.boxed.rival import Rival, compared
from shortcutscope.masks.drawing import needs_review
from shortcutscope.masks.heat import keep_heat
from shortcutscope.masks.learning import Drawing
from shortcutscope.masks.manifest import JOURNAL, MANIFEST
from shortcutscope.masks.mask_files import Assessment, Mask
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.options import Running
from shortcutscope.progress import progress_bar
from shortcutscope.retrieval.checks import IMAGE_AXES, require_images, sizes_of, why_not_searched
from shortcutscope.retrieval.detecting.detection import Where
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.places import named_boxes
from shortcutscope.types import Floats

#: Of how masks are drawn from boxes: a folder goes on only with the same.
ALGORITHM, METHOD = 5, "boxes"


@dataclass(frozen=True)
class Asked:
    """What is drawn, and where it goes.

    Attributes
    ----------
    name
        Of what was boxed.
    rows
        Of the table whose masks are wanted.
    out
        Folder of the masks.
    drawing
        Threshold inside a place, and seed.
    heat, keep_paths
        As of `shortcutscope.masks.annotation.annotate`.
    known
        ``(N,)`` 1, 0 or NaN: what is known beside the marks of who carries it.
    rival
        The evidence of a finding; it draws the masks where it does better.
    """

    name: str
    rows: Sequence[int]
    out: Path
    drawing: Drawing
    heat: bool = False
    keep_paths: bool = False
    known: Floats | None = None
    rival: Rival | None = None


def annotate_boxed(
    model: nn.Module, data: ImageTable, marks: Marks, asked: Asked, running: Running
) -> MaskSet:
    """Draw masks of what was boxed.

    Parameters
    ----------
    model
        The network that was audited; only its fingerprint is kept.
    data
        The audited images.
    marks
        By sample id, with boxes in pixels of the files.
    asked
        What is drawn.
    running
        Bars, and how images are read.

    Raises
    ------
    InputError
        For boxes outside their images, too few of them, and when detectors that were taught without a marked
        image do not tell carriers from others.
    StaleRunError
        When the folder holds masks that were made in another way.
    """
    work = _Boxed(data, marks, asked, running)
    provenance = {
        "model": model_fingerprint(model),
        "algorithm": ALGORITHM,
        "marks": fingerprint(marks),
        **asdict(asked.drawing),
        "method": METHOD,
    }
    if asked.rival is not None and work.way(asked.rival) == EVIDENCE:
        masks = asked.rival.draw([work.ids[row] for row in asked.rows], asked.out)
        work.save_figures()
        return masks
    with MaskWriter(asked.out, asked.name, provenance) as writer:
        waiting = [row for row in asked.rows if not writer.done(work.ids[row])]
        if waiting:
            work.learn()
            writer.begin()
            work.save_figures()
            with progress_bar(total=len(waiting), desc="masks", progress=running.progress) as bar:
                for row in waiting:
                    work.append(writer, row)
                    bar.update()
    return MaskSet.open(asked.out)


class _Boxed:
    """Boxes of a table's images, and what they teach, once it is needed."""

    def __init__(self, data: ImageTable, marks: Marks, asked: Asked, running: Running) -> None:
        self.data, self.asked, self.running = data, asked, running
        self.ids = data.frame["sample_id"].astype(str).tolist()
        values, boxes = marks.aligned_to(self.ids), marks.areas(self.ids)
        refuse_boxes(marks, data, {self.ids[row]: several for row, several in boxes.items()})
        self.images = in_file_size(data).keeping(running)
        self.known = values if asked.known is None else np.where(np.isnan(values), asked.known, values)
        carriers, others = np.flatnonzero(self.known == 1), np.flatnonzero(values == 0)
        self.where = Where(boxes, carriers.tolist(), others.tolist())
        self.predictor: BoxedPredictor | None = None
        self.figures: HeldOutFigures | None = None

    def learn(self) -> BoxedPredictor:
        """What draws masks, and how it does on the marked images."""
        if self.predictor is None:
            drawing, groups = self.asked.drawing, self.data.frame["group"].to_numpy()
            predictor = BoxedPredictor.fit(
                self.images,
                self.where,
                groups,
                threshold=drawing.threshold,
                seed=drawing.seed,
                progress=self.running.progress,
            )
            predictor.require_told_apart(self.asked.name)
            self.predictor = predictor
            self.figures = self.figures or held_out(
                [(self._mask(predictor, row), several) for row, several in self.where.boxes.items()],
                [self._mask(predictor, row) for row in self.where.others],
                len(predictor.taught.null),
            )
        return self.predictor

    def way(self, rival: Rival) -> str:
        """What draws the masks: as a folder was begun, else what does better on the marked images."""
        if any((self.asked.out / name).exists() for name in (MANIFEST, JOURNAL)):
            self.figures = HeldOutFigures.open(self.asked.out)
            return BOXES if self.figures is None else self.figures.way
        self.learn()
        assert self.figures is not None
        self.figures = compared(rival, self.figures, self.where, self.ids)
        return self.figures.way

    def save_figures(self) -> None:
        """Keep them beside the masks."""
        if self.figures is not None:
            self.figures.save(self.asked.out)

    def _mask(self, predictor: BoxedPredictor, row: int) -> Mask:
        return predictor.predict(self.images.image(row), row).mask

    def append(self, writer: MaskWriter, row: int) -> None:
        """Draw a sample's mask."""
        drawn, sample_id = self.learn().predict(self.images.image(row), row), self.ids[row]
        if self.asked.heat:
            keep_heat(self.asked.out, sample_id, drawn.heat)
        _, orientation = stored_frame(self.data.source, int(self.data.rows[row]))
        flagged = needs_review(drawn, float(self.known[row]))
        writer.append(
            sample_id,
            drawn.mask,
            image=image_name(self.data, row, keep_paths=self.asked.keep_paths),
            kind="image",
            orientation=orientation,
            assessment=Assessment(drawn.confidence, flagged, drawn.doubt),
        )


def refuse_boxes(marks: Marks, data: ImageTable, boxes: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Raise InputError for boxes that masks cannot be drawn from, before anything is read."""
    if len(data.shape) != 1 + IMAGE_AXES:
        raise InputError(
            f"boxes are taken on images, not on samples of shape {data.shape}: leave the edges out of the "
            "marks, and masks are drawn by which samples carry it"
        )
    require_images(marks, data)
    reason = why_not_searched(boxes, sizes_of(data, list(boxes)))
    if reason:
        raise InputError(f"{reason}. Masks need boxes that say where it is")


def fingerprint(marks: Marks) -> str:
    """SHA-256 (hex) of which samples are marked and of their boxes, whatever their order."""
    current = marks.current.sort_values("sample_id")
    lines = [f"{name} {value:g}" for name, value in zip(current["sample_id"], current["value"], strict=True)]
    lines += sorted(f"{name} {box}" for name, box in named_boxes(marks.places))
    return sha256("\n".join(lines).encode()).hexdigest()
