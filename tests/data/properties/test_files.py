"""What files say of themselves, as they were written."""

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from shortcutscope.data.properties.files import file_properties
from shortcutscope.data.properties.names import OF_FILES

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("quality", [1, 10, 37, 50, 75, 90, 95, 100])
def test_jpeg_quality_is_the_one_it_was_saved_with(tmp_path, quality):
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOURS).save(path, quality=quality)
    values = file_properties(path)
    assert values["file_jpeg_quality"] == quality
    assert (values["file_width"], values["file_height"], values["file_aspect"]) == (60, 40, 1.5)
    assert values["file_bytes"] == path.stat().st_size
    assert values["file_bytes_per_pixel"] == pytest.approx(path.stat().st_size / 2400)
    assert values["file_format"] == "JPEG"


def test_codecs_are_told_apart(tmp_path):
    image = Image.fromarray(COLOURS)
    saved = {
        "JPEG 4:2:0": ("a.jpg", {"quality": 80}),
        "JPEG progressive 4:4:4": ("b.jpg", {"progressive": True, "subsampling": 0}),
        "PNG": ("c.png", {}),
        "TIFF tiff_lzw": ("d.tif", {"compression": "tiff_lzw"}),
        "BMP": ("e.bmp", {}),
    }
    for codec, (name, options) in saved.items():
        image.save(tmp_path / name, **options)
        assert file_properties(tmp_path / name)["file_codec"] == codec


def test_bit_depth_and_mode(tmp_path):
    deep = tmp_path / "deep.png"
    Image.fromarray(RNG.integers(0, 65536, (8, 8), dtype=np.uint16)).save(deep)
    palette = tmp_path / "palette.png"
    Image.fromarray(COLOURS).convert("P").save(palette)
    assert file_properties(deep)["file_bit_depth"] == 16
    assert file_properties(palette)["file_colour_mode"] == "P"


def test_exif_names_the_device_and_of_the_date_the_year(tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131] = "Canon", "EOS 5D\0", "  Photo  Shop "
    exif[0x0132] = "2017:03:14 10:11:12"
    exif[0x013B] = "Jane Doe"  # the artist
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOURS).save(path, exif=exif)
    values = file_properties(path)
    assert values["file_manufacturer"] == "Canon"
    assert values["file_model"] == "EOS 5D"
    assert values["file_software"] == "Photo Shop"
    assert values["file_year"] == 2017
    assert not any("Jane" in str(value) or "03" in str(value) for value in values.values())


@pytest.mark.parametrize("behind", [False, True])
def test_exif_of_a_png_is_read_before_and_behind_its_pixels(tmp_path, behind):
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    path = tmp_path / "a.png"
    Image.fromarray(COLOURS).save(path, exif=exif)
    if behind:
        data = path.read_bytes()
        start = data.index(b"eXIf") - 4
        stop = start + 12 + int.from_bytes(data[start : start + 4])
        end = data.index(b"IEND") - 4
        path.write_bytes(data[:start] + data[stop:end] + data[start:stop] + data[end:])
    assert file_properties(path)["file_manufacturer"] == "Canon"


def test_no_pixel_of_a_png_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(COLOURS).save(path)

    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    assert file_properties(path)["file_codec"] == "PNG"


def test_dicom_tells_of_the_device_and_nothing_of_the_patient(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    data.PatientName, data.PatientID, data.PatientBirthDate = "Doe^Jane", "4711", "19500317"
    data.Manufacturer, data.ManufacturerModelName, data.InstitutionName = "ACME", "X-9", "St. Elsewhere"
    data.Modality, data.ViewPosition, data.KVP, data.BurnedInAnnotation = "DX", "AP", "120.5", "YES"
    data.StudyDate, data.PixelSpacing = "20190704", [0.143, 0.143]
    data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.HighBit = 4, 6, 16, 12, 11
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = bytes(48)
    path = tmp_path / "a.dcm"
    data.save_as(path, enforce_file_format=True)
    values = file_properties(path)
    assert values.pop("file_bytes") == path.stat().st_size
    assert values.pop("file_bytes_per_pixel") == pytest.approx(path.stat().st_size / 24)
    assert values == {
        "file_format": "DICOM",
        "file_codec": "Explicit VR Little Endian",
        "file_width": 6,
        "file_height": 4,
        "file_aspect": 1.5,
        "file_bit_depth": 12,
        "file_colour_mode": "MONOCHROME2",
        "file_modality": "DX",
        "file_manufacturer": "ACME",
        "file_model": "X-9",
        "file_site": "St. Elsewhere",
        "file_view": "AP",
        "file_kvp": 120.5,
        "file_pixel_spacing": 0.143,
        "file_burned_in": "YES",
        "file_year": 2019,
    }


def test_broken_files_say_nothing_more_than_their_size(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")
    assert file_properties(path) == {"file_bytes": 10}
    assert file_properties(tmp_path / "absent.png") == {}


def test_every_property_has_a_name(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 3)))
    assert set(file_properties(tmp_path / "a.npy")) <= set(OF_FILES)
