"""One mask on the disk, and what is known of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.disk import intact
from shortcutscope.errors import InputError
from shortcutscope.files import slug, write_atomically
from shortcutscope.types import JSON, Bools, Record

Mask = Bools
#: Maps of evidence or heat, (N, *size).
Maps = npt.NDArray[np.float32]
#: (H, W) pixels, (D, H, W) voxels, or (leads, time).
Kind = Literal["image", "volume", "signal"]
KINDS: tuple[Kind, ...] = ("image", "volume", "signal")
_LONGEST = 100
#: Largest values of the pictures that can be a mask: a bit, 8 bits, 16 bits.
_WHITE = (1, 255, 65535)


@dataclass(frozen=True, slots=True)
class Assessment:
    """How far a mask is to be trusted.

    Attributes
    ----------
    confidence, flagged, doubt
        What drew it says, see `MaskEntry`.
    accepted, edited
        What a person did.
    """

    confidence: float | None = None
    flagged: bool = False
    doubt: str | None = None
    accepted: bool | None = None
    edited: bool = False


@dataclass(frozen=True, slots=True)
class MaskEntry:
    """What is known of one mask.

    Attributes
    ----------
    sample_id
        Of the sample.
    image
        File name of its image, as other tools know it; the sample id where there is none.
    file
        Of the mask, below the folder of the set.
    kind
        ``"image"``, ``"volume"`` or ``"signal"``.
    size
        Of the image's own geometry in the displayed frame.
    area
        Pixels inside.
    box
        First row, column and height, width of the smallest box around it, per axis; None when empty.
    digest
        SHA-256 of the mask's size and bits, by which an edited mask is told.
    confidence
        Between 0 and 1, or None.
    flagged
        Whether a person should look at it.
    accepted
        Whether a person did, and said yes or no; None when nobody did.
    edited
        Whether a person changed it.
    orientation
        From the image as stored to the image as displayed.
    doubt
        What could not be told when it was drawn: whether there is anything, or where; None otherwise.
    """

    sample_id: str
    image: str
    file: str
    kind: Kind
    size: tuple[int, ...]
    area: int
    box: tuple[tuple[int, ...], tuple[int, ...]] | None
    digest: str
    confidence: float | None = None
    flagged: bool = False
    accepted: bool | None = None
    edited: bool = False
    orientation: Orientation | None = None
    doubt: str | None = None

    @property
    def empty(self) -> bool:
        """Whether no pixel is inside."""
        return self.area == 0

    @property
    def share(self) -> float:
        """Area relative to the image."""
        return self.area / float(np.prod(self.size))

    def to_dict(self) -> Record:
        """Plain values for JSON, under the names that COCO has for images where it has one."""
        record = asdict(self)
        record["file_name"], record["mask_file"] = record.pop("image"), record.pop("file")
        if self.kind == "image":
            record["height"], record["width"] = self.size
        record["empty"] = self.empty
        record["orientation"] = None if self.orientation is None else self.orientation.to_dict()
        return record

    @classmethod
    def from_dict(cls, record: JSON) -> MaskEntry:
        """From what :meth:`to_dict` gave; what else there is (COCO's ``id``, say) is passed over.

        Raises
        ------
        InputError
            When something is missing or is not of its kind.
        """
        try:
            box = record["box"]
            turned = record.get("orientation")
            confidence, accepted = record.get("confidence"), record.get("accepted")
            orientation = None if turned is None else Orientation.from_dict(turned)
            if record["kind"] not in KINDS:
                raise ValueError(f"kind is {record['kind']!r}")
            size = tuple(int(side) for side in record["size"])
            if len(size) != (3 if record["kind"] == "volume" else 2) or min(size) < 1:
                raise ValueError(f"size is {size} of a {record['kind']}")
            if orientation is not None and len(orientation.axes) != len(size):
                raise ValueError(f"orientation has {len(orientation.axes)} axes")
            return cls(
                sample_id=str(record["sample_id"]),
                image=str(record["file_name"]),
                file=str(record["mask_file"]),
                kind=record["kind"],
                size=size,
                area=int(record["area"]),
                box=None if box is None else (tuple(map(int, box[0])), tuple(map(int, box[1]))),
                digest=str(record["digest"]),
                confidence=None if confidence is None else float(confidence),
                flagged=bool(record.get("flagged", False)),
                accepted=None if accepted is None else bool(accepted),
                edited=bool(record.get("edited", False)),
                orientation=orientation,
                doubt=None if record.get("doubt") is None else str(record["doubt"]),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise InputError(f"an entry of a mask lacks something or is malformed: {error!r}") from error


def describe(mask: Mask) -> Record:
    """Area, box and digest of a mask, as :class:`MaskEntry` has them."""
    digest = hashlib.sha256(str(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()[:16]
    area = int(mask.sum())
    box = None
    if area:
        others = [tuple(k for k in range(mask.ndim) if k != axis) for axis in range(mask.ndim)]
        inside = [np.flatnonzero(mask.any(axis=axes)) for axes in others]
        start = tuple(int(line[0]) for line in inside)
        box = (start, tuple(int(line[-1]) + 1 - s for line, s in zip(inside, start, strict=True)))
    return {"area": area, "box": box, "digest": digest}


def checked_mask(values: npt.ArrayLike, kind: Kind | None = None) -> tuple[Mask, Kind]:
    """A boolean array and its kind.

    Raises
    ------
    InputError
        For values other than 0 and 1, or axes that the kind has not.
    """
    mask = np.asarray(values)
    if mask.dtype != np.bool_:
        if not np.isin(mask, (0, 1)).all():
            raise InputError("a mask has the values False and True (or 0 and 1) only; set a threshold first")
        mask = mask.astype(np.bool_)
    kind = kind or ("volume" if mask.ndim == 3 else "image")
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if mask.ndim != (3 if kind == "volume" else 2) or 0 in mask.shape:
        raise InputError(
            f"a mask of shape {mask.shape} is none of kind {kind!r}; allowed are (H, W) for an image, "
            "(D, H, W) for a volume, (leads, time) for a signal"
        )
    return mask, kind


def mask_file(sample_id: str, kind: Kind) -> str:
    """File name of a sample's mask: readable, and unlike that of any other sample on any file system."""
    stem = slug(sample_id)
    if stem != sample_id.lower() or len(stem) > _LONGEST:
        stem = f"{stem[:_LONGEST]}-{hashlib.sha256(sample_id.encode()).hexdigest()[:8]}"
    return stem + (".png" if kind == "image" else ".npz")


def write_mask(path: Path, mask: Mask, text: Mapping[str, str] | None = None) -> None:
    """Write a mask: a PNG of 0 and 255 with text chunks, or an npz with the array ``mask``."""
    if path.suffix == ".npz":
        write_atomically(path, lambda file: np.savez_compressed(file, mask=mask))
        return
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    write_atomically(path, lambda file: picture.save(file, "PNG", pnginfo=chunks))


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> Mask:
    """Read what :func:`write_mask` or a paint program wrote.

    A pixel is inside where it is above half of white, so that a soft brush leaves a hard mask.

    Raises
    ------
    InputError
        Naming the file, when it is missing, broken, larger than `max_pixels`, or no picture of black and
        white.
    """
    from shortcutscope.data.readers.image import read_image

    if path.suffix == ".npz":
        from shortcutscope.data.sources import npz_shape, read_npz

        with intact(path, "a mask", "draw it again"):
            shape = npz_shape(path, "mask")
        try:
            check_size(shape, max_pixels)
        except InputError as error:
            raise InputError(f"{path} is no mask: {error}") from error
        with intact(path, "a mask", "draw it again"):
            values = read_npz(path, "mask")
    else:
        values = read_image(path, max_pixels=max_pixels).max(axis=0)
    if values.dtype == np.bool_:
        return values
    top = values.max()
    if top and top not in _WHITE:
        raise InputError(f"{path} is no mask of black and white: its largest value is {top}, not 255 or 1")
    mask: Mask = values > top / 2
    return mask
