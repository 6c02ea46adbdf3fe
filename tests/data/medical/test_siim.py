import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.data.medical.siim import RunLengthMasks, decode_runs, siim
from shortcutscope.errors import InputError

ROWS = [("a", "5 2 3 1"), ("b", " -1"), ("a", "1048575 1"), ("c", "0 1024"), ("d", "-1")]


@pytest.fixture
def tree(tmp_path):
    """Four images, one of the test folder, one with two masks; the images are empty files."""
    for name in "abcde":  # nothing is said of e
        folder = tmp_path / f"dicom-images-{'test' if name == 'd' else 'train'}" / f"1.{name}" / f"2.{name}"
        folder.mkdir(parents=True)
        (folder / f"{name}.dcm").touch()
    text = "".join(f"{name},{runs}\n" for name, runs in ROWS)
    (tmp_path / "train-rle.csv").write_text("ImageId, EncodedPixels\n" + text)
    return tmp_path


def slow(text, height, width):
    """The format as its description has it, pixel by pixel."""
    mask, place, numbers = np.zeros(height * width, dtype=bool), 0, [int(n) for n in text.split()]
    for skip, length in zip(numbers[::2], numbers[1::2], strict=True):
        place += skip
        for _ in range(length):
            mask[place] = True
            place += 1
    return np.array([[mask[x * height + y] for x in range(width)] for y in range(height)])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=5))
def test_runs_are_decoded_as_pixel_by_pixel(pairs):
    text = " ".join(f"{skip} {length}" for skip, length in pairs)
    assert np.array_equal(decode_runs(text, (10, 7)), slow(text, 10, 7))


@pytest.mark.parametrize("text", ["3", "1 x", "1 -2", "60 11", "9223372036854775807 2"])
def test_other_texts_are_no_runs(text):
    with pytest.raises(InputError, match="run"):
        decode_runs(text, (10, 7))


def test_labels_splits_and_masks(tree):
    table = open_dataset("siim", tree)
    assert table.frame["sample_id"].tolist() == ["a", "b", "c", "d"]
    assert table.frame["label"].tolist() == [1, 0, 1, 0]
    assert table.frame["split"].tolist() == ["train", "train", "train", "test"]
    assert table.frame["annotations"].tolist() == [2, 0, 1, 0]
    assert table.classes == ("no pneumothorax", "pneumothorax")
    assert not table.has_groups
    united = table.mask(0)
    assert torch.nonzero(united).tolist() == [[5, 0], [6, 0], [10, 0], [1023, 1023]]
    assert table.mask(1) is None
    assert table.mask(2)[:, 0].all()
    assert table.mask(2).sum() == 1024


def test_masks_follow_size_selection_and_pickling(tree):
    table = siim(tree, size=4).take([2, 0])
    assert table.mask(0).tolist() == [[False] * 4] * 4  # the first column is between the pixels' centres
    assert siim(tree, size=1024).take([2]).mask(0).sum() == 1024
    again = pickle.loads(pickle.dumps(siim(tree)))
    assert torch.equal(again.mask(0), siim(tree).mask(0))
    masks = RunLengthMasks([("0 6",), ()], (4, 4), size=2)
    assert masks.read(0).tolist() == [[True, False], [False, False]]
    assert masks.read(1) is None


def test_headers_give_patients_and_metadata(tree):
    pydicom = pytest.importorskip("pydicom")
    for k, path in enumerate(sorted(tree.rglob("*.dcm"))):
        write(pydicom, path, f"p{k // 2}", ["51", "061Y", None, "8", "9"][k])
    table = siim(tree, headers=True)
    assert dict(zip(table.frame["sample_id"], table.frame["group"], strict=True)) == {
        "a": "p0", "b": "p1", "c": "p1", "d": "p0",
    }  # fmt: skip
    assert table.has_groups
    assert table.frame["PatientAge"].dropna().tolist() == [61, 8, 51]
    assert table.frame["ViewPosition"].tolist() == ["PA"] * 4
    assert table.verify(progress=False).image(0).shape == (1, 1024, 1024)
    (tree / "dicom-images-train" / "1.a" / "2.a" / "a.dcm").write_bytes(b"broken")
    with pytest.raises(LayoutError, match=r"header of .*a\.dcm"):
        siim(tree, headers=True)


def write(pydicom, path, patient, age):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.SOPClassUID, data.SOPInstanceUID = pydicom.uid.ComputedRadiographyImageStorage, "1.2.3"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.PatientID, data.PatientSex, data.ViewPosition, data.Modality = patient, "F", "PA", "CR"
    if age is not None:
        data.add_new("PatientAge", "LO", age)
    data.Rows = data.Columns = 1024
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = bytes(1024 * 1024)
    data.save_as(path, enforce_file_format=True)


def test_other_layouts_are_refused(tree):
    table = tree / "train-rle.csv"
    whole = table.read_text()
    table.write_text(whole + "f,-1\ng,-1\n")
    with pytest.raises(LayoutError, match="2 of 6 images have no file: 'f', 'g'"):
        siim(tree)
    table.write_text(whole + "b,\n")
    with pytest.raises(LayoutError, match="rows without EncodedPixels"):
        siim(tree)
    table.write_text(whole.replace("EncodedPixels", "Runs"))
    with pytest.raises(LayoutError, match="lacks the column 'EncodedPixels'"):
        siim(tree)
    table.rename(tree / "other.csv")
    with pytest.raises(LayoutError, match=r"(?s)no file 'train-rle\.csv' or 'stage_2_train\.csv'.*kaggle"):
        siim(tree)


def test_the_table_of_the_second_stage(tree):
    (tree / "train-rle.csv").rename(tree / "stage_2_train.csv")
    table = tree / "stage_2_train.csv"
    table.write_text(table.read_text().replace(", Enc", ",Enc"))
    assert len(siim(tree)) == 4


def test_ten_thousand_masks_are_not_decoded(tree):
    names = [f"n{k}" for k in range(10_000)]
    folder = tree / "dicom-images-train" / "many" / "images"
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.dcm").touch()
    frame = pd.DataFrame({"ImageId": names, " EncodedPixels": "odd"})
    frame.to_csv(tree / "train-rle.csv", index=False)
    table = siim(tree)  # a run that cannot be decoded is seen when it is asked for
    assert len(table) == 10_000
    with pytest.raises(InputError, match="not 'odd'"):
        table.mask(5)
