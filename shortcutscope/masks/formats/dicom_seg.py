"""DICOM Segmentation objects, one a source image, by highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shortcutscope.data.readers.dicom import dicom_size
from shortcutscope.data.readers.size_limit import MAX_PIXELS, check_size
from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.files import write_atomically
from shortcutscope.masks.formats import MaskFormat
from shortcutscope.masks.formats.collect import Returned, collect, names_of
from shortcutscope.masks.formats.layout import file_names, provenance_of, require_kinds, source_files, story
from shortcutscope.masks.formats.staging import staged
from shortcutscope.masks.manifest import MANIFEST, read_manifest, write_manifest
from shortcutscope.masks.mask_files import Mask, MaskEntry
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.types import Record

if TYPE_CHECKING:
    from shortcutscope.data.samples import SampleTable

_PURPOSE = "DICOM SEG"
_LONGEST_LABEL, _LONGEST_DESCRIPTION = 64, 1024
#: No coding scheme has a code for what images carry by accident, so this is a private one (PS3.16, 8.2).
_SCHEME, _CODE = "99SHORTCUTSCOPE", "artifact"
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality")
#: Of type 2 in the standard: there, and empty where unknown.
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "SliceThickness"),
)
#: What places a slice in space, in a frame of reference.
_PLACED = {"ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"}
_INSTEAD = "Export these masks as png or nifti, which need less of the source"


def export_dicom_seg(
    masks: MaskSet, path: str | Path, *, sources: Mapping[str, str | Path] | SampleTable
) -> Path:
    """Write one binary Segmentation object a mask, which refers to its source image.

    Patient, study and frame of reference are those of the source. What a de-identified source lacks of them
    is left empty, as the standard allows; a frame of reference that was taken out is derived from the
    series, so that slices of one series keep one. Identifiers are derived from the source and the mask, so
    that the same export gives the same objects. Provenance stands in the description of the segment, as far
    as its 1024 characters go, and in ``masks.json``.

    Parameters
    ----------
    masks
        Of images, or of volumes that are the frames of one file.
    path
        Folder.
    sources
        Sample ids to the DICOM files of the images, or their table.

    Raises
    ------
    InputError
        For signals, a missing or unfitting source, a source that cannot be segmented (it lacks its study or
        the size of its pixels, say), or when highdicom is missing. Nothing is written then.
    """
    require_kinds(masks, "DICOM SEG", ["image", "volume"])
    highdicom = require("highdicom", "medical", _PURPOSE)
    files = source_files(sources, masks)
    missing = [name for name in masks.sample_ids if name not in files]
    if missing:
        raise InputError(f"DICOM SEG refers to the source images; sources= lacks {missing[0]!r}")
    names = file_names(masks, ".seg.dcm")
    entries = []
    with staged(Path(path)) as folder:
        for number, entry in enumerate(masks.entries, 1):
            mask = masks.mask(entry.sample_id)
            segmentation = _segmentation(masks, entry, mask, files[entry.sample_id], number, highdicom)
            write_atomically(folder / names[entry.sample_id], segmentation.save_as)
            entries.append(replace(entry, file=names[entry.sample_id]))
        write_manifest(folder / MANIFEST, masks.name, entries, provenance_of(masks.in_frame("displayed")))
    return Path(path)


def _segmentation(
    masks: MaskSet, entry: MaskEntry, mask: Mask, source: Path, number: int, highdicom: Any
) -> Any:
    image = _read(source)
    frames = int(image.get("NumberOfFrames", 1) or 1)
    plane = (image.get("Rows"), image.get("Columns"))
    size = (frames, *plane) if frames > 1 else plane
    if mask.shape != size:
        raise InputError(f"the mask of {entry.sample_id!r} has the size {mask.shape}, {source} has {size}")
    _complete(image, source)
    version = str(masks.provenance.get("version", ""))
    codes = require("pydicom.sr.codedict", "medical", _PURPOSE).codes
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd names of patients and the like in the source
            described = highdicom.seg.SegmentDescription(
                segment_number=1,
                segment_label=masks.name[:_LONGEST_LABEL],
                segmented_property_category=codes.SCT.PhysicalObject,
                segmented_property_type=highdicom.sr.CodedConcept(
                    _CODE, _SCHEME, masks.name[:_LONGEST_LABEL]
                ),
                algorithm_type="SEMIAUTOMATIC" if entry.edited else "AUTOMATIC",
                algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                    name="shortcutscope",
                    version=version,
                    family=codes.DCM.ManualProcessing if entry.edited else codes.DCM.ArtificialIntelligence,
                ),
            )
            described.SegmentDescription = story(masks, entry)[:_LONGEST_DESCRIPTION]
            return highdicom.seg.Segmentation(
                source_images=[image],
                pixel_array=mask,
                segmentation_type="BINARY",
                segment_descriptions=[described],
                series_instance_uid=_uid(str(image.SeriesInstanceUID), masks.name),
                series_number=1,
                sop_instance_uid=_uid(str(image.SOPInstanceUID), masks.name, entry.digest),
                instance_number=number,
                manufacturer="shortcutscope",
                manufacturer_model_name="shortcutscope",
                software_versions=version,
                device_serial_number="0",
                omit_empty_frames=False,
            )
    except Exception as error:  # highdicom raises anything on sources that lack what the standard asks for
        lacks = error.name if isinstance(error, AttributeError) else None
        reason = f"it lacks {lacks}" if lacks else str(error)
        raise InputError(f"{source} cannot be the source of a DICOM SEG: {reason}. {_INSTEAD}") from error


def _complete(image: Any, source: Path) -> None:
    """Fill what a de-identified source lacks and the standard lets be empty.

    Raises
    ------
    InputError
        Naming what cannot be filled.
    """
    missing = [name for name in _NEEDED if not image.get(name)]
    if missing:
        raise InputError(
            f"{source} cannot be the source of a DICOM SEG: it lacks {', '.join(missing)}. {_INSTEAD}"
        )
    for name in _MAY_BE_EMPTY:
        if name not in image:
            setattr(image, name, None)
    if not image.get("FrameOfReferenceUID") and _PLACED.issubset(image.dir()):
        image.FrameOfReferenceUID = _uid(str(image.SeriesInstanceUID), "frame of reference")


def _uid(*parts: str) -> str:
    uid = require("pydicom.uid", "medical", _PURPOSE)
    return str(uid.generate_uid(entropy_srcs=["shortcutscope", *parts]))


def _read(source: Path) -> Any:
    pydicom = require("pydicom", "medical", _PURPOSE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(source)
    except Exception as error:
        raise InputError(f"{source} is no DICOM file: {error}") from error


def import_dicom_seg(
    path: str | Path,
    out: str | Path,
    *,
    like: MaskSet | None = None,
    name: str | None = None,
    sources: Mapping[str, str | Path] | SampleTable | None = None,
    max_pixels: int = MAX_PIXELS,
) -> MaskSet:
    """Read a folder of Segmentation objects into a set in the folder `out`.

    Frames that an object leaves out are empty.

    Parameters
    ----------
    path
        Folder, with sub-folders, or one file. Objects are matched to samples by ``masks.json`` where it
        lies in the folder, else by the source image that they refer to, else by their names.
    out, like
        As in :func:`shortcutscope.masks.formats.png.import_png`.
    name
        Label of the segment to take; None for that of `like`, or the only one.
    sources
        As in :func:`export_dicom_seg`.
    max_pixels
        Most pixels that a mask may have.

    Raises
    ------
    InputError
        For broken files, other DICOM objects, a label that is missing, or what `collect` refuses.
    """
    path = Path(path)
    highdicom = require("highdicom", "medical", _PURPOSE)
    folder, files = _files(path)
    manifest = read_manifest(folder / MANIFEST) if (folder / MANIFEST).exists() else None
    by_file = {entry.file: entry for entry in (manifest.entries if manifest else ())}
    by_uid = {str(_read(file).SOPInstanceUID): key for key, file in source_files(sources).items()}
    label = name or (like.name if like else None)

    names = None if like is None else names_of(like)

    def returned() -> Iterator[Returned]:
        for file in files:
            place = file.relative_to(folder).as_posix()
            segmentation, uid = _opened(file, highdicom, max_pixels)
            base = by_file.get(place)
            key = base.sample_id if base else by_uid.get(uid, place.replace(".seg.dcm", ".dcm"))
            expected = like.entry(names(key)) if like is not None and names is not None else base
            frames = expected.size[0] if expected is not None and expected.kind == "volume" else 0
            yield Returned(key, _mask(file, segmentation, uid, label, frames), base)

    return collect(
        returned(),
        out,
        source=path,
        format="dicom-seg",
        like=like,
        name=manifest.name if manifest else label or "imported",
        provenance=manifest.provenance if manifest else None,
    )


def _files(path: Path) -> tuple[Path, list[Path]]:
    """The folder, and the DICOM files in it, or the single one."""
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.rglob("*.dcm")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise InputError(f"there is no DICOM file at {path}")
    return folder, files


def _opened(file: Path, highdicom: Any, max_pixels: int) -> tuple[Any, str]:
    """Segmentation, and identifier of its source image."""
    try:
        check_size(dicom_size(file), max_pixels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = highdicom.seg.segread(file)
        instances = {str(uid) for _, _, uid in segmentation.get_source_image_uids()}
        if _refers_to_frames(segmentation):
            check_size((_last_frame(segmentation), segmentation.Rows, segmentation.Columns), max_pixels)
    except Exception as error:  # highdicom and pydicom raise anything on other or broken objects
        raise InputError(f"{file} cannot be read as a DICOM SEG: {error}") from error
    if len(instances) != 1:
        raise InputError(f"{file} refers to {len(instances)} images; a mask has one")
    return segmentation, instances.pop()


def _mask(file: Path, segmentation: Any, uid: str, label: str | None, frames: int) -> Mask:
    """Mask on the pixels of the source image, of at least `frames` frames; 0 for a single one."""
    options: Record = {"assert_missing_frames_are_empty": True, "ignore_spatial_locations": True}
    try:
        options["segment_numbers"] = _segments(segmentation, label)
        if _refers_to_frames(segmentation):
            numbered = list(range(1, max(frames, _last_frame(segmentation)) + 1))
            pixels = segmentation.get_pixels_by_source_frame(uid, numbered, **options)
        else:
            pixels = segmentation.get_pixels_by_source_instance([uid], **options)
    except Exception as error:  # as above
        raise InputError(f"{file} cannot be read as a DICOM SEG: {error}") from error
    mask: Mask = np.asarray(pixels, dtype=np.bool_).max(axis=-1)  # over segments
    if len(mask) == 1 and not frames:
        return mask.reshape(mask.shape[1:])
    return mask


def _segments(segmentation: Any, label: str | None) -> list[int]:
    labels = {
        number: str(segmentation.get_segment_description(number).segment_label)
        for number in segmentation.segment_numbers
    }
    segment_label = None if label is None else label[:_LONGEST_LABEL]
    matches = [number for number, text in labels.items() if segment_label in (None, text)]
    if not matches:
        raise InputError(f"it has no segment {label!r}; it has {', '.join(labels.values())}")
    if segment_label is None and len(matches) > 1:
        raise InputError(f"it has the segments {', '.join(labels.values())}; say which with name=")
    return matches


def _source_items(segmentation: Any) -> Iterator[Any]:
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in frame.get("DerivationImageSequence", []):
            yield from derivation.SourceImageSequence


def _refers_to_frames(segmentation: Any) -> bool:
    return any("ReferencedFrameNumber" in item for item in _source_items(segmentation))


def _last_frame(segmentation: Any) -> int:
    numbers = [item.ReferencedFrameNumber for item in _source_items(segmentation)]
    return max(int(n) for n in np.ravel(numbers))


FORMAT = MaskFormat(export_dicom_seg, import_dicom_seg)
