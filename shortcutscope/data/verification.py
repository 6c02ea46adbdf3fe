"""One pass over all images that names what cannot be used, before hours are spent on the rest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.utils.data import Dataset

from shortcutscope.data.decoding.decoded import as_decoded
from shortcutscope.data.decoding.loading import loaded, worker_count
from shortcutscope.data.properties.columns import Properties, properties_of
from shortcutscope.data.readers.dicom import is_dicom
from shortcutscope.data.readers.dicom_scale import GreyScale, grey_scale, scale_problems
from shortcutscope.data.readers.image import UnreadableImageError, to_float
from shortcutscope.data.rows import Rows
from shortcutscope.data.sources import ArraySource, NpzSource, PathSource, as_array, origin_of
from shortcutscope.data.stored_frame import file_source
from shortcutscope.errors import InputError
from shortcutscope.processes import gathered, own_share
from shortcutscope.progress import progress_bar

_Value = TypeVar("_Value")
_SHOWN = 5
_BATCH = 8  # with what was decoded for it, a batch goes from process to process
_TOLERANCE = 1e-4  # of the range: above float32 rounding and resampling, far below one 8-bit grey level


@dataclass(frozen=True)
class Inspection:
    """What one image turned out to be; shapes are those the model would get, `picture` a digest of it."""

    row: int
    unreadable: str = ""
    refused: str = ""
    shape: tuple[int, ...] = ()
    low: float = 0.0
    high: float = 0.0
    finite: bool = True
    finite_input: bool = True
    mask: str = ""
    picture: str = ""
    scale: GreyScale | None = None
    properties: Properties | None = None


class _Inspector(Dataset[Inspection]):
    def __init__(self, table: Rows, *, measure: bool) -> None:
        self.table, self.measure = table, measure

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Inspection:
        if row >= len(self):
            raise IndexError(row)
        try:
            image = self.table.image(row)
            mask = self.table.mask(row)
        except UnreadableImageError as error:
            return Inspection(row, unreadable=str(error))
        except InputError as error:
            return Inspection(row, refused=str(error))
        try:
            model_input = self.table.transformed(image)
        except (
            Exception
        ) as error:  # the transform is the user's: whatever it raises is told with the sample's name
            return Inspection(row, refused=f"the transform failed: {type(error).__name__}: {error}")
        fits = mask is None or mask.shape == image.shape[1:]
        return Inspection(
            row,
            shape=tuple(model_input.shape),
            low=float(image.min()) if image.numel() else 0.0,
            high=float(image.max()) if image.numel() else 0.0,
            finite=bool(torch.isfinite(image).all()),
            finite_input=bool(torch.isfinite(model_input).all()),
            mask="" if fits or mask is None else f"mask {tuple(mask.shape)}, image {tuple(image.shape[1:])}",
            picture=_digest(image),
            scale=_scale(self.table, row),
            properties=properties_of(self.table, row, image) if self.measure else None,
        )


def _digest(image: torch.Tensor) -> str:
    digest = hashlib.blake2b(repr(tuple(image.shape)).encode(), digest_size=16)
    digest.update(image.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _scale(table: Rows, row: int) -> GreyScale | None:
    """Of a DICOM file that is shown as it asks."""
    source = file_source(table.source)
    if source is None or source.reading.window != "file":
        return None
    path = source.path(int(table.rows[row]))
    return grey_scale(path) if is_dicom(path) else None


def inspect(table: Rows, *, workers: int | None, progress: bool, measure: bool = False) -> list[Inspection]:
    """Decode every image and mask once, in row order; processes that share the work decode a part each.

    With `measure` the properties of file and picture are taken on the way.
    """
    rows = range(len(table))[own_share(len(table))]
    count = worker_count(table, workers, batch_size=_BATCH, start=rows.start, stop=rows.stop)

    def own() -> list[Inspection]:
        inspections: list[Inspection] = []
        batches = loaded(_Inspector(table, measure=measure), rows, list, batch_size=_BATCH, workers=count)
        with progress_bar(total=len(rows), desc="verify", unit="image", progress=progress) as bar:
            for batch in batches:
                inspections.extend(batch)
                bar.update(len(batch))
        return inspections

    return [inspection for part in gathered(own, "verify") for inspection in part]


def check_repeatable(table: Rows) -> None:
    """Refuse a source or transform that gives another image at every read.

    Raises
    ------
    InputError
        When two reads of the first image differ.
    """
    row = int(table.rows[0])
    images = [table.image(0)]
    if isinstance(origin_of(table.source, row)[0], PathSource | ArraySource | NpzSource):
        images *= 2  # only the transform can be random
    else:
        images.append(to_float(as_array(as_decoded(table.source).read(row)), table.value_range))
    first, second = (table.transformed(image.clone()) for image in images)
    if not torch.equal(torch.nan_to_num(first), torch.nan_to_num(second)):
        raise InputError(
            f"two reads of the image {names_of(table)[0]!r} differ, so the transform or the "
            "data set is random (augmentation?); use the deterministic evaluation transform"
        )


def problems(table: Rows, inspections: Sequence[Inspection], channels: int | None) -> list[str]:
    """One sentence per kind of trouble among the readable images, each naming samples."""
    ids = names_of(table)
    refused = _named(
        [f"{ids[i.row]!r} ({i.refused})" for i in inspections if i.refused], "image(s) do not fit"
    )
    inspections = [i for i in inspections if not i.refused]
    if not inspections:
        return [refused]
    low, high = table.value_range
    slack = _TOLERANCE * (high - low)
    texts = [refused, _channel_problem(ids, inspections, channels), _shape_problem(ids, inspections)]
    broken = [f"{ids[i.row]!r}" for i in inspections if not i.finite]
    texts.append(_named(broken, "image(s) hold values that are not finite (NaN or infinity)"))
    outside = [
        f"{ids[i.row]!r} [{i.low:.4g}, {i.high:.4g}]"
        for i in inspections
        if i.finite and (i.low < low - slack or i.high > high + slack)
    ]
    advice = "; declare the range the values have with value_range=(low, high)"
    texts.append(
        _named(outside, f"image(s) have values outside the declared range [{low:g}, {high:g}]", advice)
    )
    spoilt = [f"{ids[i.row]!r}" for i in inspections if i.finite and not i.finite_input]
    texts.append(_named(spoilt, "image(s) are finite, but not after the transform"))
    masks = [f"{ids[i.row]!r} ({i.mask})" for i in inspections if i.mask]
    texts.append(_named(masks, "mask(s) differ from their image in size"))
    texts += scale_problems(
        ids,
        {i.row: i.scale for i in inspections if i.scale is not None},
        {
            i.row: ((i.low - low) / (high - low), (i.high - low) / (high - low))
            for i in inspections
            if i.finite
        },
    )
    return [text for text in texts if text]


def names_of(table: Rows) -> list[str]:
    """What the images are called in errors, which stay with the user: by their files, else by their ids."""
    files = table.files
    return [files.get(sample_id, sample_id) for sample_id in table.frame["sample_id"].tolist()]


def _channel_problem(ids: Sequence[str], inspections: Sequence[Inspection], channels: int | None) -> str:
    counts = Counter(i.shape[0] for i in inspections)
    expected = channels if channels is not None else _commonest(counts)
    odd = [f"{ids[i.row]!r} ({i.shape[0]})" for i in inspections if i.shape[0] != expected]
    whose = "the model takes" if channels is not None else "most have"
    return _named(
        odd,
        f"image(s) have a wrong number of channels ({whose} {expected})",
        '; pass mode="L" or mode="RGB" to give all of them the same',
    )


def _shape_problem(ids: Sequence[str], inspections: Sequence[Inspection]) -> str:
    counts = Counter(i.shape[1:] for i in inspections)
    if len(counts) == 1:
        return ""
    expected = _commonest(counts)
    odd = [f"{ids[i.row]!r} {i.shape[1:]}" for i in inspections if i.shape[1:] != expected]
    return _named(
        odd,
        f"image(s) differ in shape from the others {expected}",
        "; pass size= to give all of them the same",
    )


def _commonest(counts: Counter[_Value]) -> _Value:
    return counts.most_common(1)[0][0]


def _named(items: Sequence[str], what: str, advice: str = "") -> str:
    if not items:
        return ""
    return f"{len(items)} {what}: {', '.join(items[:_SHOWN])}{' ...' if len(items) > _SHOWN else ''}{advice}"


def refuse(sentences: Iterable[str]) -> None:
    """Raise one InputError that lists all the sentences, if there are any."""
    lines = list(sentences)
    if lines:
        raise InputError(
            "the images cannot be used as they are:\n" + "\n".join(f"- {text}" for text in lines)
        )


def unreadable_problem(table: Rows, unreadable: Sequence[Inspection]) -> str:
    """Sentence that names the unreadable images with their reasons."""
    names = names_of(table)
    texts = [f"{names[i.row]!r} ({i.unreadable})" for i in unreadable]
    advice = '; replace them, or leave them out with on_unreadable="skip"'
    return _named(texts, "image(s) cannot be read", advice)
