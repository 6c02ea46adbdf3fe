import pathlib

import numpy as np
import pytest
import torch

from shortcutscope.data.dicom import read_dicom
from shortcutscope.data.readers import UnreadableImageError, read_image
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


def test_a_lookup_table_of_values_of_interest(written):
    table = pydicom.Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.LUTData = np.array([0, 10, 100, 255], dtype=np.uint16).tobytes()
    path = written(
        "a.dcm",
        np.array([[0, 1], [2, 3]], dtype=np.uint16),
        RescaleIntercept=0,
        VOILUTSequence=[table],
    )
    assert np.allclose(read_image(path)[0] / 65535, np.array([[0, 10], [100, 255]]) / 65535, atol=1e-6)
