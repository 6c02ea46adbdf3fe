"""Grey DICOM images: from stored numbers to physical values, and to what a viewer shows of them.

PS3.3 of the standard: C.11.1 (modality), C.11.2 (values of interest), C.7.6.16 (functional groups, in which
enhanced objects tell both for each frame). Elements that are there and empty count as absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shortcutscope.data.readers.dicom_window import CHOICES, NeedsWindowError, Window
from shortcutscope.errors import InputError
from shortcutscope.types import Array

if TYPE_CHECKING:
    from pydicom import Dataset

FULL_SCALE = 65535
_WORD = 2**16
#: Bytes of stored numbers that are few enough to be looked up in a table.
_LOOKED_UP = 2
_TABLE_BITS = (8, *range(10, 17))
_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
#: Modalities whose physical values mean the same in every file: Hounsfield units, activity.
_COMMON_UNIT = ("CT", "PT")


@dataclass(frozen=True, eq=False)
class LookupTable:
    """Entries for stored values from `first` on; values outside take the nearest entry."""

    first: int
    entries: Array
    bits: int

    def __call__(self, values: Array) -> Array:
        """Entries of values."""
        place = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[place.astype(np.intp)])

    @property
    def white(self) -> float:
        """Largest number of its bits.

        Raises
        ------
        NeedsWindowError
            When two of the bits or more are not used: white is then not known.
        """
        white = 2**self.bits - 1
        if 4 * self.entries.max() <= white:
            raise NeedsWindowError(
                f"its lookup table says that its entries have {self.bits} bits, and they end at "
                f"{self.entries.max():g}, so that it is not known which is white; {CHOICES}"
            )
        return float(white)


@dataclass(frozen=True)
class FileWindow:
    """The window that a file names, by the function that it names."""

    centre: float
    width: float
    function: str = "LINEAR"

    def __str__(self) -> str:
        return f"{self.centre:g}/{self.width:g}" + f" {self.function}" * (self.function != "LINEAR")

    def __call__(self, values: Array) -> Array:
        """Share of white, 0 to 1 (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - self.centre) / self.width, -500, 500))))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.centre) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return (values > self.centre - 0.5).astype(np.float64)
        return np.clip((values - (self.centre - 0.5)) / (self.width - 1) + 0.5, 0, 1)


@dataclass(frozen=True)
class GreyValues:
    """How the stored numbers of a frame are to be read.

    Attributes
    ----------
    stored
        Lowest and highest number that the bits can hold; None for floating-point pixels.
    slope, intercept
        To physical values, where there is no `table`.
    table
        The modality's lookup table.
    display
        The window or lookup table of values of interest; None where the file names none.
    inverted
        Whether low values are bright.
    common
        Whether a physical value means the same in every file.
    """

    stored: tuple[float, float] | None
    slope: float
    intercept: float
    table: LookupTable | None
    display: FileWindow | LookupTable | None
    inverted: bool
    common: bool

    def physical(self, stored: Array) -> Array:
        """Physical values, float64."""
        values = stored.astype(np.float64)
        return self.table(values) if self.table is not None else values * self.slope + self.intercept

    def bounds(self) -> tuple[float, float]:
        """Lowest and highest physical value that there can be.

        Raises
        ------
        NeedsWindowError
            For floating-point pixels, of which that is not known.
        """
        if self.table is not None:
            return 0.0, self.table.white
        if self.stored is None:
            raise NeedsWindowError(
                "its pixels are floating-point numbers and it names no window, so that it is not known which "
                f"are black and white; {CHOICES}"
            )
        low, high = sorted(end * self.slope + self.intercept for end in self.stored)
        return low, high


def shown_values(stored: Array, frames: Sequence[GreyValues], window: Window) -> Array:
    """Pixels (H, W) or (frames, H, W) through a window as uint16, or without one as float32.

    Parameters
    ----------
    stored
        Numbers as they are stored.
    frames
        How to read them: one for all frames, or one each.
    window
        See :func:`shortcutscope.data.readers.dicom.read_dicom`.

    Raises
    ------
    NeedsWindowError
        When the frames name different windows, or it is not known what is black and white.
    """
    if window == "file":
        _refuse_different(frames)
    by_window = window == "file" and frames[0].display is not None
    limits = None
    if (window is None and frames[0].inverted) or (window in ("file", "bits") and not by_window):
        every = [frame.bounds() for frame in frames]
        limits = min(low for low, _ in every), max(high for _, high in every)
    elif isinstance(window, tuple):
        limits = window[0] - window[1] / 2, window[0] + window[1] / 2
    if len(frames) == 1:
        return _one(stored, frames[0], window, limits)
    return np.stack([_one(*pair, window, limits) for pair in zip(stored, frames, strict=True)])


def _one(stored: Array, frame: GreyValues, window: Window, limits: tuple[float, float] | None) -> Array:
    """Pixels of one frame; of up to 16 bits each number between the lowest and the highest is shown once."""
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > _LOOKED_UP or not stored.size:
        return _shown(stored, frame, window, limits)
    low, high = int(stored.min()), int(stored.max())
    if high - low >= stored.size:
        return _shown(stored, frame, window, limits)
    entries = _shown(np.arange(low, high + 1, dtype=stored.dtype), frame, window, limits)
    place = stored.astype(np.intp)
    place -= low
    return entries.take(place)


def _shown(stored: Array, frame: GreyValues, window: Window, limits: tuple[float, float] | None) -> Array:
    values = frame.physical(stored)
    if window is None:  # inverted about the middle of what the bits can hold, in the physical unit
        return (values if limits is None else sum(limits) - values).astype(np.float32)
    if limits is not None:
        low, high = limits
        share = np.clip((values - low) / (high - low), 0, 1)
    elif isinstance(frame.display, LookupTable):
        share = np.clip(frame.display(values) / frame.display.white, 0, 1)
    else:
        assert frame.display is not None
        share = frame.display(values)
    return np.rint((1 - share if frame.inverted else share) * FULL_SCALE).astype(np.uint16)


def _refuse_different(frames: Sequence[GreyValues]) -> None:
    windows = {frame.display for frame in frames}
    if len(windows) > 1:
        texts = ", ".join(
            sorted({"none" if window is None else display_text(window) for window in windows})[:5]
        )
        raise NeedsWindowError(f"its frames name different windows ({texts}); {CHOICES}")


def display_text(display: FileWindow | LookupTable) -> str:
    """A window or lookup table in words."""
    return str(display) if isinstance(display, FileWindow) else f"a table of {len(display.entries)} entries"


def grey_values(data: Dataset, window: Window = "file") -> list[GreyValues]:
    """How a data set's frames are to be read: one for all where they are alike, else one each.

    The windows of the file are looked at for the window ``"file"`` only.

    Raises
    ------
    InputError
        For elements that contradict themselves: a slope of 0, half a window, a lookup table without entries.
    """
    photometric = str(data.PhotometricInterpretation)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(f"it has one sample a pixel and the photometric interpretation {photometric!r}")
    common = str(data.get("Modality", "")) in _COMMON_UNIT
    whole = GreyValues(
        stored=_stored_bounds(data),
        slope=1.0,
        intercept=0.0,
        table=None,
        display=None,
        inverted=photometric == "MONOCHROME1",
        common=common,
    )
    count = int(data.get("NumberOfFrames") or 1)
    groups = data.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        return [_read(data, whole, _shared(data), window)]
    if len(groups) != count:
        raise InputError(
            f"it has {count} frames and tells of {len(groups)} (PerFrameFunctionalGroupsSequence)"
        )
    frames = [_read(data, whole, [group, *_shared(data)], window) for group in groups]
    return frames[:1] if all(frame == frames[0] for frame in frames) else frames


def _shared(data: Dataset) -> list[Dataset]:
    return list(data.get("SharedFunctionalGroupsSequence") or ())[:1]


def _read(data: Dataset, whole: GreyValues, groups: Sequence[Dataset], window: Window) -> GreyValues:
    """What functional groups say, the first that does, else the data set itself."""
    modality = _item(groups, "PixelValueTransformationSequence") or data
    interest = _item(groups, "FrameVOILUTSequence") or data
    little = bool(data.file_meta.TransferSyntaxUID.is_little_endian)
    slope, intercept = _number(modality, "RescaleSlope"), _number(modality, "RescaleIntercept")
    if slope == 0:
        raise InputError("its RescaleSlope is 0, which makes all pixels the same; correct the file")
    table = _table(modality, "ModalityLUTSequence", little, signed=(whole.stored or (0, 0))[0] < 0)
    values = replace(
        whole,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        table=table,
        common=whole.common or str(modality.get("RescaleType", "") or "").upper() == "HU",
    )
    if window != "file":
        return values
    signed = table is None and (values.stored is None or values.bounds()[0] < 0)
    display = _table(interest, "VOILUTSequence", little, signed=signed) or _window(interest)
    return replace(values, display=display)


def _item(groups: Sequence[Dataset], name: str) -> Dataset | None:
    """Item of a functional group that tells something."""
    for group in groups:
        items: Sequence[Dataset] = group.get(name) or ()
        for item in items:
            if len(item):
                return item
    return None


def _stored_bounds(data: Dataset) -> tuple[float, float] | None:
    if "FloatPixelData" in data or "DoubleFloatPixelData" in data or "BitsStored" not in data:
        return None
    bits = int(data.BitsStored)
    if int(data.get("PixelRepresentation") or 0) == 1:
        return float(-(2 ** (bits - 1))), float(2 ** (bits - 1) - 1)
    return 0.0, float(2**bits - 1)


def _number(item: Dataset, name: str) -> float | None:
    """First value of an element; None where it is absent or empty."""
    value = item.get(name)
    if value is not None and not isinstance(value, str | bytes | int | float):
        value = next(iter(value), None) if hasattr(value, "__iter__") else value
    if value is None or value == "":
        return None
    number = float(value)
    if not np.isfinite(number):
        raise InputError(f"its {name} is {number}, which is no number; correct the file")
    return number


def _window(item: Dataset) -> FileWindow | None:
    centre, width = _number(item, "WindowCenter"), _number(item, "WindowWidth")
    if centre is None and width is None:
        return None
    function = str(item.get("VOILUTFunction") or "LINEAR").upper()
    least = 1.0 if function == "LINEAR" else 0.0
    if centre is None or width is None or function not in _FUNCTIONS or width < least or width == 0:
        raise NeedsWindowError(
            f"its window has the centre {centre}, the width {width} and the function {function}, which the "
            f"standard does not know; {CHOICES}"
        )
    return FileWindow(centre, width, function)


def _table(item: Dataset, name: str, little: bool, *, signed: bool) -> LookupTable | None:
    """First lookup table of a sequence; None where there is none, or it is empty."""
    items = item.get(name)
    if not items:
        return None
    descriptor, data = items[0].get("LUTDescriptor"), items[0].get("LUTData")
    if not descriptor and not data:
        return None
    try:
        count, first, bits = (int(value) for value in descriptor)
    except (TypeError, ValueError) as error:
        raise InputError(f"the lookup table of its {name} has the descriptor {descriptor!r}") from error
    count = count % _WORD or _WORD
    if signed and first >= _WORD // 2:  # written as unsigned
        first -= _WORD
    entries = _entries(data, count, bits, little)
    if bits not in _TABLE_BITS or len(entries) < count or entries[:count].max() >= 2**bits:
        raise InputError(
            f"the lookup table of its {name} is to have {count} entries of {bits} bits; it has {len(entries)}"
            + (f" up to {entries.max():g}" if len(entries) else "")
        )
    return LookupTable(first, entries[:count], bits)


def _entries(data: bytes | Sequence[int] | None, count: int, bits: int, little: bool) -> Array:
    if isinstance(data, bytes):
        packed = bits == 8 and len(data) in (count, count + count % 2)
        kind = "u1" if packed else "<u2" if little else ">u2"
        return np.frombuffer(data[: len(data) - len(data) % np.dtype(kind).itemsize], kind).astype(np.float64)
    return np.atleast_1d(np.asarray([] if data is None else data, dtype=np.int64) % _WORD).astype(np.float64)
