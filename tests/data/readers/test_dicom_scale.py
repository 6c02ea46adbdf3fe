import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError

pydicom = pytest.importorskip("pydicom")


@pytest.fixture
def table(tmp_path):
    """A table of CT slices of 300 HU and 40 HU, one for each dictionary of elements."""

    def make(*files, stored=(-1000, 0, 40, 300), **options):
        names = []
        for k, elements in enumerate(files):
            data = pydicom.Dataset()
            data.file_meta = pydicom.dataset.FileMetaDataset()
            data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.CTImageStorage
            data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid()
            data.PhotometricInterpretation, data.SamplesPerPixel, data.Modality = "MONOCHROME2", 1, "CT"
            data.Rows, data.Columns, data.BitsAllocated, data.PixelRepresentation = 1, 4, 16, 1
            data.BitsStored, data.HighBit = 16, 15
            slope, intercept = elements.get("RescaleSlope", 1), elements.get("RescaleIntercept", 0)
            data.RescaleSlope, data.RescaleIntercept = slope, intercept
            data.PixelData = ((np.array(stored) - intercept) / slope).astype("<i2").tobytes()
            for key, value in elements.items():
                setattr(data, key, value)
            data.save_as(tmp_path / f"{k}.dcm", enforce_file_format=True)
            names.append(f"{k}.dcm")
        frame = pd.DataFrame({"image": names, "label": np.arange(len(names)) % 2})
        return ImageTable.from_frame(frame, root=tmp_path, **options)

    return make


WINDOW = {"WindowCenter": 40, "WindowWidth": 400}


def test_d4_files_with_and_without_a_window_are_refused_together(table):
    with pytest.raises(
        InputError, match=r"1 DICOM file\(s\) name a window \('0.dcm'\) and 1 do not .'1.dcm'"
    ):
        table(WINDOW, {}).verify(progress=False)
    for window in ((40, 400), None, "bits"):
        mended = table(WINDOW, {}, window=window, value_range=(0, 1) if window else (-1024, 3071))
        assert mended.verify(progress=False).image(0).equal(mended.image(1))


def test_d4_ct_with_different_windows_is_refused_and_radiographs_are_not(table):
    other = {"WindowCenter": -600, "WindowWidth": 1500}
    with pytest.raises(InputError, match=r"CT or PET.*40/400 \('0.dcm'\), -600/1500 \('1.dcm'\).*--window"):
        table(WINDOW, other).verify(progress=False)
    table(WINDOW | {"Modality": "DX"}, other | {"Modality": "DX"}).verify(progress=False)
    with pytest.raises(InputError, match="different windows"):
        table(WINDOW | {"Modality": "OT", "RescaleType": "HU"}, other).verify(progress=False)


def test_d4_slopes_that_differ_need_a_window(table):
    with pytest.raises(InputError, match=r"slope 0.5 and intercept 0.*slope 2 and intercept 0.*--window"):
        table({"Modality": "PT", "RescaleSlope": 0.5}, {"Modality": "PT", "RescaleSlope": 2}).verify(
            progress=False
        )


def test_d4_images_that_use_little_of_their_bits_are_refused(table):
    with pytest.raises(InputError, match=r"all images together use 2\.0%.*--window"):
        table({}, {}).verify(progress=False)
    table({}, {}, stored=(-30000, 0, 40, 300)).verify(progress=False)
    table({}, {}, window=(0, 2000)).verify(progress=False)


def test_d4_the_window_on_the_command_line(table, tmp_path):
    from shortcutscope.cli.inputs import open_table, window_choice
    from shortcutscope.cli.options import DataOptions

    table({}, WINDOW)
    (tmp_path / "t.csv").write_text("image,label\n0.dcm,0\n1.dcm,1\n")
    opened = open_table(tmp_path / "t.csv", DataOptions(window="40,400")).verify(progress=False)
    assert opened.source.reading.window == (40, 400)
    assert opened.image(0).equal(opened.image(1))
    opened = open_table(tmp_path / "t.csv", DataOptions(window="none", value_range=(-1024, 3071)))
    assert float(opened.verify(progress=False).image(0).max()) == 300
    assert [window_choice(text) for text in ("file", "bits", "none")] == ["file", "bits", None]
    for text in ("40", "40,0", "a,b", ""):
        with pytest.raises(InputError, match=r"--window .* is not allowed; give file, bits, none"):
            window_choice(text)
