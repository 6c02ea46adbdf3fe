import pathlib

import numpy as np
import pytest
import torch

from shortcutscope.data.readers.dicom import NeedsWindowError, read_dicom
from shortcutscope.data.readers.dicom_values import FileWindow, GreyValues, LookupTable, shown_values
from shortcutscope.data.readers.image import UnreadableImageError, read_image
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.extras import MissingExtraError

pydicom = pytest.importorskip("pydicom")


def bundled(name):
    return pathlib.Path(pydicom.__file__).parent / "data" / "test_files" / name


@pytest.fixture
def written(tmp_path):
    """A file of given pixels and elements, made from a real CT slice."""

    def write(name, pixels, **elements):
        data = pydicom.dcmread(bundled("CT_small.dcm"))
        data.Rows, data.Columns = pixels.shape[-2:]
        if pixels.ndim == 3:
            data.NumberOfFrames = len(pixels)
        data.BitsAllocated = pixels.dtype.itemsize * 8
        data.BitsStored, data.HighBit = data.BitsAllocated, data.BitsAllocated - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        data["PixelData"].VR = "OW"
        data.PixelData = pixels.tobytes()
        for key, value in elements.items():
            setattr(data, key, value)
        data.save_as(tmp_path / name)
        return tmp_path / name

    return write


def test_rescale_gives_hounsfield_units():
    path = bundled("CT_small.dcm")
    stored = pydicom.dcmread(path).pixel_array
    values = read_image(path, window=None)
    assert values.dtype == np.float32
    assert values.shape == (1, 128, 128)
    assert np.array_equal(values[0], stored.astype(np.float32) - 1024)


def test_window_of_the_file_is_that_of_the_standard():
    data = pydicom.dcmread(bundled("MR_small.dcm"))
    centre, width = float(data.WindowCenter), float(data.WindowWidth)
    share = np.clip((data.pixel_array - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)  # PS3.3, C.11.2.1.2.1
    shown = read_image(bundled("MR_small.dcm"))
    assert shown.dtype == np.uint16
    assert np.abs(shown[0] / 65535 - share).max() < 1e-4


def test_a_given_window_and_one_that_is_none(written):
    path = written("a.dcm", np.arange(12, dtype=np.int16).reshape(3, 4) * 100)  # rescaled by -1024
    assert (
        np.abs(
            read_image(path, window=(0, 400)) / 65535
            - np.clip((np.arange(12).reshape(3, 4) * 100 - 1024 + 200) / 400, 0, 1)
        ).max()
        < 1e-4
    )
    for window in ("bone", (0, 0), (1, 2, 3), (0, float("nan"))):
        with pytest.raises(InputError, match="window"):
            ImageTable.from_arrays(np.zeros((2, 4, 4)), [0, 1], window=window)


def test_monochrome1_is_inverted(written):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 300
    elements = {"BitsStored": 12, "HighBit": 11, "RescaleIntercept": 0}
    light = written("a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", **elements)
    dark = written("b.dcm", pixels, **elements)
    assert np.array_equal(read_image(light, window=None)[0], 4095 - pixels)
    assert np.abs(read_image(light).astype(int) + read_image(dark) - 65535).max() <= 1


def test_bits_without_a_window_are_the_full_scale(written):
    pixels = np.array([[0, 4095], [1024, 2048]], dtype=np.uint16)
    path = written("a.dcm", pixels, BitsStored=12, HighBit=11, RescaleIntercept=0)
    assert np.allclose(read_image(path)[0] / 65535, pixels / 4095, atol=1e-4)


def test_frames_are_a_volume_and_colours_are_channels(written):
    frames = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    assert np.array_equal(read_image(written("a.dcm", frames), window=None)[0], frames - 1024)
    assert read_image(bundled("SC_rgb_rle_2frame.dcm")).shape == (3, 2, 100, 100)
    assert read_image(bundled("examples_palette.dcm")).shape[0] == 3
    colour = read_image(bundled("SC_rgb_rle.dcm"))
    assert colour.shape == (3, 100, 100)
    assert np.array_equal(colour[:, 5, 50], [255, 0, 0])


def test_a_table_of_dicom_files(written, tmp_path):
    for k in range(4):
        written(f"{k}.dcm", np.full((6, 9), 900 + 100 * k, dtype=np.int16), WindowCenter=0, WindowWidth=1000)
    written("1.2.840.1", np.full((6, 9), 900, dtype=np.int16), WindowCenter=0, WindowWidth=1000)
    (tmp_path / "t.csv").write_text("image,label\n0.dcm,0\n1.dcm,1\n2.dcm,0\n3.dcm,1\n1.2.840.1,0\n")
    table = ImageTable.from_csv(tmp_path / "t.csv", size=(3, 3)).verify(progress=False)
    assert table.geometry(1).size == (6, 9)
    assert torch.allclose(table.image(0), table.image(4))
    assert 0 < table.image(0).mean() < table.image(2).mean() < 1
    physical = ImageTable.from_csv(tmp_path / "t.csv", window=None, value_range=(-1024, 3071))
    assert float(physical.image(3).mean()) == 1200 - 1024
    assert (
        physical.fingerprint()
        != ImageTable.from_csv(tmp_path / "t.csv", value_range=(-1024, 3071)).fingerprint()
    )


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "rtplan.dcm", "test-SR.dcm"])
def test_files_without_an_image_are_named(name):
    with pytest.raises(UnreadableImageError, match=name):
        read_image(bundled(name))


def test_bytes_that_are_no_dicom(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\0\x05")
    with pytest.raises(UnreadableImageError, match=r"a\.dcm"):
        read_image(tmp_path / "a.dcm")
    table = ImageTable.from_frame(
        __import__("pandas").DataFrame({"image": ["a.dcm"], "label": [0]}), root=tmp_path
    )
    with pytest.raises(UnreadableImageError, match=r"a\.dcm"):
        table.geometry(0)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match=r'pip install "shortcutscope\[medical\]"'):
        read_dicom("a.dcm")
    with pytest.raises(MissingExtraError, match="medical"):
        read_image(bundled("CT_small.dcm"))


def items(*elements):
    made = []
    for told in elements:
        item = pydicom.Dataset()
        for key, value in told.items():
            setattr(item, key, value)
        made.append(item)
    return made


def lookup(entries, bits, first=0):
    return items(
        {"LUTDescriptor": [len(entries), first, bits], "LUTData": np.asarray(entries, "<u2").tobytes()}
    )


def test_a_lookup_table_of_values_of_interest(written):
    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    path = written("a.dcm", pixels, RescaleIntercept=0, VOILUTSequence=lookup([0, 10, 100, 255], 8))
    assert np.allclose(read_image(path)[0] / 65535, np.array([[0, 10], [100, 255]]) / 255, atol=1e-5)


def test_d5_lookup_tables_of_any_shape(written):
    ramp = np.array([[0, 1000, 2000], [3000, 4095, 7]], dtype=np.uint16)
    stored = {"BitsStored": 12, "HighBit": 11, "RescaleIntercept": 0}
    eight = np.linspace(0, 255, 4096).astype(int)  # more entries than eight bits can count
    shown = read_image(written("a.dcm", ramp, VOILUTSequence=lookup(eight, 8), **stored))
    assert np.allclose(shown[0] / 65535, eight[ramp] / 255, atol=1e-5)
    valley = np.abs(np.arange(4096) - 2048) * 16
    path = written("b.dcm", ramp, ModalityLUTSequence=lookup(valley, 16), **stored)
    assert np.allclose(read_image(path)[0] / 65535, valley[ramp] / 65535, atol=1e-5)
    assert np.array_equal(read_image(path, window=None)[0], valley[ramp])
    path = written("c.dcm", ramp, VOILUTSequence=lookup(np.arange(4096), 16), **stored)
    with pytest.raises(NeedsWindowError, match=r"c\.dcm.*16 bits, and they end at 4095.*--window"):
        read_image(path)
    assert read_image(path, window=(2048, 4096)).max() == 65535 * 4095 // 4096
    signed = written(
        "d.dcm",
        np.array([[-3, 0], [2, 9]], dtype=np.int16),
        RescaleIntercept=0,
        VOILUTSequence=lookup([0, 50, 255], 8, -1),
    )
    assert np.allclose(read_image(signed)[0] / 65535, np.array([[0, 50], [255, 255]]) / 255, atol=1e-5)


def enhanced(rescales, windows):
    """Functional groups of frames: (slope, intercept) and (centre, width)."""
    frames = []
    for rescale, window in zip(rescales, windows, strict=True):
        told = {}
        if rescale:
            slope, intercept = rescale
            told["PixelValueTransformationSequence"] = items(
                {"RescaleSlope": slope, "RescaleIntercept": intercept}
            )
        if window:
            told["FrameVOILUTSequence"] = items({"WindowCenter": window[0], "WindowWidth": window[1]})
        frames.append(told)
    return items(*frames)


def test_d3_functional_groups_of_enhanced_objects_are_applied(written):
    stored = np.stack([np.arange(12, dtype=np.uint16).reshape(3, 4) * 100] * 2)
    plain = {"RescaleSlope": None, "RescaleIntercept": None}
    alike = written(
        "a.dcm", stored, PerFrameFunctionalGroupsSequence=enhanced([(1, -1024)] * 2, [(40, 400)] * 2), **plain
    )
    hounsfield = stored - 1024.0
    assert np.array_equal(read_image(alike, window=None)[0], hounsfield)
    share = np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1)
    assert np.allclose(read_image(alike)[0] / 65535, share, atol=1e-5)
    shared = written("b.dcm", stored, SharedFunctionalGroupsSequence=enhanced([(2, -10)], [None]), **plain)
    assert np.array_equal(read_image(shared, window=None)[0], stored * 2.0 - 10)
    each = written(
        "c.dcm",
        stored,
        PerFrameFunctionalGroupsSequence=enhanced([(1, 0), (4, -8)], [None, None]),
        SharedFunctionalGroupsSequence=enhanced([None], [(600, 1000)]),
        **plain,
    )
    physical = np.stack([stored[0] * 1.0, stored[1] * 4.0 - 8])
    assert np.array_equal(read_image(each, window=None)[0], physical)
    assert np.allclose(read_image(each)[0] / 65535, np.clip((physical - 599.5) / 999 + 0.5, 0, 1), atol=1e-5)
    bits = read_image(each, window="bits")[0] / 65535
    assert np.allclose(bits, (physical + 8) / (4 * 65535), atol=1e-5)


def test_d3_frames_with_different_windows_are_refused(written):
    stored = np.stack([np.arange(12, dtype=np.uint16).reshape(3, 4) * 100] * 2)
    for windows in ([(40, 400), (-600, 1500)], [(40, 400), None]):
        groups = enhanced([(1, -1024)] * 2, windows)
        path = written("a.dcm", stored, PerFrameFunctionalGroupsSequence=groups)
        with pytest.raises(NeedsWindowError, match=r"a\.dcm.*40/400.*--window"):
            read_image(path)
        assert np.allclose(
            read_image(path, window=(40, 400))[0] / 65535,
            np.clip((stored - 1024.0 + 160) / 400, 0, 1),
            atol=1e-5,
        )
    path = written("b.dcm", stored, PerFrameFunctionalGroupsSequence=enhanced([(1, 0)], [None]))
    with pytest.raises(UnreadableImageError, match="2 frames and tells of 1"):
        read_image(path)


def test_d10_empty_elements_count_as_absent(written):
    stored = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", None)
    table.add_new("LUTData", "OW", None)
    for empty in (
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleSlope": None, "RescaleIntercept": 0},
        {"RescaleIntercept": 0, "WindowCenter": None, "WindowWidth": None},
        {"RescaleIntercept": 0, "VOILUTSequence": []},
        {"RescaleIntercept": 0, "ModalityLUTSequence": []},
        {"RescaleIntercept": 0, "VOILUTSequence": [table]},
    ):
        path = written("a.dcm", stored, **empty)
        assert np.allclose(read_image(path)[0] / 65535, stored / 65535, atol=1e-5), empty
        assert np.array_equal(read_image(path, window=None)[0], stored), empty


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": 40, "WindowWidth": 0},
        {"WindowCenter": 40, "WindowWidth": -5},
        {"WindowCenter": 40},
        {"WindowWidth": 400},
        {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "CUBIC"},
    ],
)
def test_d10_windows_that_are_none_are_refused(written, window):
    path = written("a.dcm", np.arange(12, dtype=np.uint16).reshape(3, 4), **window)
    with pytest.raises(NeedsWindowError, match=r"a\.dcm.*window has the centre.*--window"):
        read_image(path)
    assert read_image(path, window=(0, 100)).max() <= 65535


def test_d10_what_makes_an_image_of_one_value_is_refused(written):
    path = written("a.dcm", np.arange(12, dtype=np.uint16).reshape(3, 4), RescaleSlope=0)
    with pytest.raises(UnreadableImageError, match="RescaleSlope is 0"):
        read_image(path)
    (path.parent / "photo.dcm").write_bytes(b"\xff\xd8\xff" + bytes(300))
    with pytest.raises(UnreadableImageError, match="it is no DICOM file") as refused:
        read_image(path.parent / "photo.dcm")
    assert "force" not in str(refused.value)


def test_d4_floating_point_pixels_need_a_window(written):
    path = written("a.dcm", np.zeros((2, 2), dtype=np.uint16), RescaleIntercept=0)
    data = pydicom.dcmread(path)
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    data.BitsAllocated, data.FloatPixelData = 32, np.array([0, 1, 2, 3], dtype="<f4").tobytes()
    data.save_as(path)
    with pytest.raises(NeedsWindowError, match=r"a\.dcm.*floating-point.*--window none"):
        read_image(path)
    assert read_image(path, window=None).ravel().tolist() == [0, 1, 2, 3]
    assert read_image(path, window=(1, 2)).ravel().tolist() == [0, 32768, 65535, 65535]


def test_d5_colours_of_twelve_bits_have_their_full_scale(written):
    path = written("a.dcm", np.zeros((2, 2), dtype=np.uint16))
    data = pydicom.dcmread(path)
    data.SamplesPerPixel, data.PlanarConfiguration, data.PhotometricInterpretation = 3, 0, "RGB"
    data.BitsStored, data.HighBit = 12, 11
    data.PixelData = np.array([0, 1000, 4095] * 4, dtype="<u2").tobytes()
    data.save_as(path)
    assert np.allclose(read_image(path)[:, 0, 0] / 65535, np.array([0, 1000, 4095]) / 4095, atol=1e-5)


def test_d8_a_compression_without_its_package_names_the_extra():
    path = bundled("SC_rgb_jpeg_gdcm.dcm")
    if pydicom.pixels.get_decoder(pydicom.dcmread(path).file_meta.TransferSyntaxUID).available_plugins:
        colour = read_image(path)
        assert colour.shape == (3, 100, 100)
        assert np.array_equal(colour[:, 5, 50], [255, 0, 0])
        return
    with pytest.raises(MissingExtraError, match=r'JPEG Lossless.*pip install "shortcutscope\[jpeg\]"'):
        read_image(path)


def test_r5_headers_are_not_believed(written):
    path = written("a.dcm", np.zeros((2, 2), dtype=np.uint16))
    for rows, frames in ((65535, 1), (2, 2**40)):
        data = pydicom.dcmread(path)
        data.Rows, data.Columns, data.NumberOfFrames = rows, rows, frames
        data.save_as(path.parent / "b.dcm")
        with pytest.raises(UnreadableImageError, match=r"the limit is 268,435,456.*--max-pixels"):
            read_image(path.parent / "b.dcm")
    with pytest.raises(UnreadableImageError, match="the limit is 3"):
        read_image(path, max_pixels=3)
    data = pydicom.dcmread(bundled("SC_rgb_jpeg_dcmtk.dcm"))
    data.PixelData = data.PixelData.replace(
        b"\xff\xc0\x00\x11\x08\x00\x64\x00\x64", b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff"
    )
    data.save_as(path)
    with pytest.raises(UnreadableImageError, match=r"header says that its size is \(100, 100\).*65535"):
        read_image(path)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("window", ["file", "bits", (40.0, 400.0), None])
@pytest.mark.parametrize(
    "display",
    [
        FileWindow(100.5, 77.3),
        FileWindow(1.0, 1.0),
        FileWindow(300.0, 1234.5, "LINEAR_EXACT"),
        FileWindow(-50.0, 900.0, "SIGMOID"),
        LookupTable(-20, np.arange(300.0) % 251, 8),
    ],
)
def test_numbers_that_are_looked_up_are_shown_to_the_bit_as_each_pixel_by_itself(kind, window, display):
    info = np.iinfo(kind)
    frame = GreyValues((info.min, info.max), 1.7, -12.3, None, display, inverted=True, common=False)
    stored = np.random.default_rng(0).integers(info.min, info.max, (2, 300, 400), kind, endpoint=True)
    for numbers in (stored, stored // 8, np.full_like(stored, 3)):
        shown = shown_values(numbers, [frame], window)
        # Numbers of more than 16 bits are not looked up.
        expected = shown_values(numbers.astype(np.int64), [frame], window)
        assert shown.dtype == expected.dtype
        np.testing.assert_array_equal(shown, expected)
