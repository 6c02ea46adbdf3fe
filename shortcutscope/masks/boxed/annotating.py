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
from shortcutscope.masks.boxed.held_out import HeldOut, held_out
from shortcutscope.masks.boxed.learning import BoxedPredictor
from shortcutscope.masks.drawing import MaskPrediction, needs_review
from shortcutscope.masks.heat import keep_heat
from shortcutscope.masks.learning import Drawing
from shortcutscope.masks.mask_files import Assessment, Mask
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.options import Running
from shortcutscope.progress import progress_bar
from shortcutscope.retrieval.checks import IMAGE_AXES, require_images, sizes_of, why_not_searched
from shortcutscope.retrieval.detecting.detection import Where
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.places import is_click, named_boxes

#: Of how masks are drawn from boxes: a folder goes on only with the same.
ALGORITHM, METHOD = 1, "boxes"


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
    """

    name: str
    rows: Sequence[int]
    out: Path
    drawing: Drawing
    heat: bool = False
    keep_paths: bool = False


def boxes_in(marks: Marks, ids: Sequence[str]) -> dict[int, list[tuple[float, ...]]]:
    """Number of a sample to its boxes; clicks are none."""
    boxes = {row: [box for box in several if not is_click(box)] for row, several in marks.boxes(ids).items()}
    return {row: several for row, several in boxes.items() if several}


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
    ids = data.frame["sample_id"].astype(str).tolist()
    values = marks.aligned_to(ids)
    boxes = boxes_in(marks, ids)
    refuse_boxes(marks, data, {ids[row]: several for row, several in boxes.items()})
    carriers, others = (np.flatnonzero(values == value).tolist() for value in (1, 0))
    images = in_file_size(data).keeping(running)
    told = {
        "model": model_fingerprint(model),
        "algorithm": ALGORITHM,
        "marks": fingerprint(marks),
        **asdict(asked.drawing),
        "method": METHOD,
    }
    with MaskWriter(asked.out, asked.name, told) as writer:
        left = [row for row in asked.rows if not writer.done(ids[row])]
        if left:
            where = Where(boxes, carriers, others)
            predictor = BoxedPredictor.fit(
                images,
                where,
                data.frame["group"].to_numpy(),
                threshold=asked.drawing.threshold,
                seed=asked.drawing.seed,
                progress=running.progress,
            )
            predictor.require_told_apart(asked.name)
            writer.begin()
            _check(predictor, images, where).save(asked.out)
            with progress_bar(total=len(left), desc="masks", progress=running.progress) as bar:
                for row in left:
                    _append(writer, predictor.predict(images.image(row), row), data, row, values[row], asked)
                    bar.update()
    return MaskSet.open(asked.out)


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


def _check(predictor: BoxedPredictor, images: ImageTable, where: Where) -> HeldOut:
    """Masks of the marked images, each drawn without its own marks, against the boxes."""

    def mask(row: int) -> Mask:
        return predictor.predict(images.image(row), row).mask

    return held_out(
        [(mask(row), where.boxes[row]) for row in where.boxes],
        [mask(row) for row in where.others],
        len(predictor.taught.null),
    )


def _append(
    writer: MaskWriter, drawn: MaskPrediction, data: ImageTable, row: int, value: float, asked: Asked
) -> None:
    sample_id = str(data.frame["sample_id"].iloc[row])
    if asked.heat:
        keep_heat(asked.out, sample_id, drawn.heat)
    _, orientation = stored_frame(data.source, int(data.rows[row]))
    writer.append(
        sample_id,
        drawn.mask,
        image=image_name(data, row, keep_paths=asked.keep_paths),
        kind="image",
        orientation=orientation,
        assessment=Assessment(drawn.confidence, needs_review(drawn, value), drawn.doubt),
    )
