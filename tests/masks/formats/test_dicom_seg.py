import pathlib

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.dicom_seg import import_dicom_seg
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:highdicom.*"),
]
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
CINE = "1.2.840.10008.5.1.4.1.1.7.3"  # Multi-frame Grayscale Word Secondary Capture


def bundled(name):
    return pathlib.Path(pydicom.__file__).parent / "data" / "test_files" / name


def slice_of(shape, name, path):
    """A file of given size, made from a real CT slice."""
    data = pydicom.dcmread(bundled("CT_small.dcm"))
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(
        entropy_srcs=[name]
    )
    data.Rows, data.Columns = shape[-2:]
    data["PixelData"].VR = "OW"
    data.PixelData = np.zeros(shape, np.int16).tobytes()
    if len(shape) == 3:
        data.NumberOfFrames = shape[0]
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = ENHANCED_CT
        measures, plane = pydicom.Dataset(), pydicom.Dataset()
        measures.PixelSpacing, measures.SliceThickness = [0.7, 0.7], 5.0
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared = pydicom.Dataset()
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
        data.SharedFunctionalGroupsSequence = [shared]
        data.PerFrameFunctionalGroupsSequence = []
        for k in range(shape[0]):
            position, frame = pydicom.Dataset(), pydicom.Dataset()
            position.ImagePositionPatient = [0, 0, 5.0 * k]
            frame.PlanePositionSequence = [position]
            data.PerFrameFunctionalGroupsSequence.append(frame)
    data.save_as(path)
    return path


@pytest.fixture
def sources(tmp_path):
    """A CT and an MR slice as pydicom brings them, one that is not square, and one of three frames."""
    return {
        "ct": bundled("CT_small.dcm"),
        "mr": bundled("MR_small.dcm"),
        "wide": slice_of((20, 31), "wide", tmp_path / "wide.dcm"),
        "frames": slice_of((3, 14, 10), "frames", tmp_path / "frames.dcm"),
    }


@pytest.fixture
def masks(sources, tmp_path):
    sizes = {"ct": (128, 128), "mr": (64, 64), "wide": (20, 31), "frames": (3, 14, 10)}
    with MaskWriter(tmp_path / "m", "marker", {"model": "0f" * 32, "threshold": 0.4}) as writer:
        for k, (name, size) in enumerate(sizes.items()):
            mask = np.random.default_rng(k).random(size) > 0.8
            if name == "mr":
                mask[:] = False
            if name == "frames":
                mask[1:] = False
            writer.append(name, mask, image=sources[name].name, assessment=Assessment(confidence=0.5))
    return MaskSet.open(tmp_path / "m")


def test_pydicom_and_highdicom_read_the_same_pixels(masks, sources, tmp_path):
    folder = masks.export(tmp_path / "out", format="dicom-seg", sources=sources)
    for entry in masks.entries:
        source = pydicom.dcmread(sources[entry.sample_id])
        path = folder / (sources[entry.sample_id].stem + ".seg.dcm")
        mask = masks.mask(entry.sample_id)
        raw = pydicom.dcmread(path)
        assert raw.SOPClassUID == pydicom.uid.SegmentationStorage
        assert raw.SegmentationType == "BINARY"
        assert raw.PatientID == source.PatientID
        assert raw.StudyInstanceUID == source.StudyInstanceUID
        if mask.ndim == 2:  # frames are sorted by their place in the patient, so that only a reader knows
            assert np.array_equal(raw.pixel_array.astype(bool), mask)
        described = raw.SegmentSequence[0]
        assert described.SegmentLabel == "marker"
        assert '"threshold": 0.4' in described.SegmentDescription
        read = highdicom.seg.segread(path)
        assert [uid for _, _, uid in read.get_source_image_uids()] == [source.SOPInstanceUID]
        if mask.ndim == 2:
            pixels = read.get_pixels_by_source_instance(
                [source.SOPInstanceUID], ignore_spatial_locations=True
            )
        else:
            pixels = read.get_pixels_by_source_frame(
                source.SOPInstanceUID, [1, 2, 3], ignore_spatial_locations=True
            )
        assert np.array_equal(np.squeeze(pixels).astype(bool), mask)


def test_there_and_back(masks, sources, tmp_path):
    folder = masks.export(tmp_path / "out", format="dicom-seg", sources=sources)
    again = masks.export(tmp_path / "again", format="dicom-seg", sources=sources)
    first, second = (pydicom.dcmread(f / "wide.seg.dcm").SOPInstanceUID for f in (folder, again))
    assert first == second
    back = import_dicom_seg(folder, tmp_path / "back")
    (folder / "masks.json").unlink()
    for path in folder.glob("*.dcm"):
        path.rename(path.with_name(f"x{path.stat().st_ino}.dcm"))
    matched = import_dicom_seg(folder, tmp_path / "matched", like=masks, sources=sources)
    for found in (back, matched):
        assert sorted(found.sample_ids) == sorted(masks.sample_ids)
        assert all(np.array_equal(found.mask(name), mask) for name, mask in masks)
        assert found.entry("ct").confidence == 0.5
        assert not any(entry.edited for entry in found.entries)
        assert found.provenance["threshold"] == 0.4


def test_frames_that_another_program_left_out_are_empty(masks, sources, tmp_path):
    source = pydicom.dcmread(sources["frames"])
    artifact = highdicom.sr.CodedConcept("artifact", "99TEST", "artifact")
    described = highdicom.seg.SegmentDescription(1, "marker", artifact, artifact, "MANUAL")
    (tmp_path / "edited").mkdir()
    mask = np.zeros((3, 14, 10), dtype=bool)
    mask[1, 4:9, 2:6] = True
    highdicom.seg.Segmentation(
        [source],
        mask,
        "BINARY",
        [described],
        "1.2.3",
        1,
        "1.2.3.4",
        1,
        "x",
        "x",
        "1",
        "0",
        omit_empty_frames=True,
    ).save_as(tmp_path / "edited" / "frames.dcm")
    back = import_dicom_seg(
        tmp_path / "edited", tmp_path / "back", like=masks, sources={"frames": sources["frames"]}
    )
    assert np.array_equal(back.mask("frames"), mask)
    assert back.entry("frames").accepted is True


def test_sources_that_are_missing_or_do_not_fit(masks, sources, tmp_path):
    with pytest.raises(InputError, match="lacks 'mr'"):
        masks.export(tmp_path / "1", format="dicom-seg", sources={"ct": sources["ct"]})
    with pytest.raises(InputError, match=r"MR_small.*\(64, 64\)"):
        masks.export(tmp_path / "2", format="dicom-seg", sources={**sources, "ct": sources["mr"]})
    (tmp_path / "a.dcm").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.dcm is no DICOM"):
        masks.export(tmp_path / "3", format="dicom-seg", sources={**sources, "ct": tmp_path / "a.dcm"})
    cine = pydicom.dcmread(sources["frames"])
    cine.SOPClassUID = cine.file_meta.MediaStorageSOPClassUID = CINE
    del cine.FrameOfReferenceUID, cine.PixelSpacing
    cine.save_as(tmp_path / "cine.dcm")
    with pytest.raises(InputError, match=r"cine\.dcm cannot be the source.*Frame of Reference"):
        masks.take(["frames"]).export(
            tmp_path / "4", format="dicom-seg", sources={"frames": tmp_path / "cine.dcm"}
        )


def test_objects_that_are_no_masks_are_named(masks, sources, tmp_path):
    with pytest.raises(InputError, match=r"CT_small\.dcm.*DICOM SEG"):
        import_dicom_seg(sources["ct"], tmp_path / "1")
    folder = masks.take(["ct"]).export(tmp_path / "out", format="dicom-seg", sources=sources)
    with pytest.raises(InputError, match=r"CT_small\.seg\.dcm.*no segment 'tube'"):
        import_dicom_seg(folder, tmp_path / "2", name="tube")
    with pytest.raises(InputError, match="no DICOM file"):
        import_dicom_seg(tmp_path / "none", tmp_path / "3")


def test_a_missing_package_names_the_extra(masks, sources, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "highdicom", None)
    with pytest.raises(InputError, match=r'highdicom: pip install "shortcutscope\[medical\]"'):
        masks.export(tmp_path / "x", format="dicom-seg", sources=sources)


def test_d8_what_a_deidentified_source_lacks_is_filled(masks, tmp_path):
    taken = {}
    for k, name in enumerate(("ct", "mr")):
        data = pydicom.dcmread(bundled("CT_small.dcm" if name == "ct" else "MR_small.dcm"))
        for keyword in (
            *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"),
            *("StudyTime", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID"),
        ):
            if keyword in data:
                delattr(data, keyword)
        if k:
            data.StudyDate = data.PatientID = ""
        data.save_as(tmp_path / f"{name}.dcm")
        taken[name] = tmp_path / f"{name}.dcm"
    some = masks.take(["ct", "mr"])
    folder = some.export(tmp_path / "out", format="dicom-seg", sources=taken)
    written = sorted(folder.glob("*.seg.dcm"))
    assert len(written) == 2
    series = {str(pydicom.dcmread(path).FrameOfReferenceUID) for path in written}
    assert len(series) == 2
    assert pydicom.dcmread(written[0]).PatientID in (None, "")
    back = import_dicom_seg(folder, tmp_path / "back", like=some)
    assert np.array_equal(back.mask("ct"), masks.mask("ct"))


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PixelSpacing"]
)
def test_d8_what_cannot_be_filled_is_named_and_nothing_is_written(masks, sources, tmp_path, keyword):
    data = pydicom.dcmread(bundled("MR_small.dcm"))
    delattr(data, keyword)
    data.save_as(tmp_path / "mr.dcm")
    with pytest.raises(InputError, match=rf"mr\.dcm cannot be the source.*{keyword}.*png or nifti"):
        masks.take(["ct", "mr"]).export(
            tmp_path / "out", format="dicom-seg", sources={**sources, "mr": tmp_path / "mr.dcm"}
        )
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
