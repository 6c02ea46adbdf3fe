from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.annotations import with_trap_set
from shortcutscope.data.medical.isic2018 import DIAGNOSES, isic2018
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.errors import InputError

PARTS = {
    "Training": [f"ISIC_002430{i}" for i in range(7)],
    "Validation": ["ISIC_0034321", "ISIC_0034322"],
    "Test": ["ISIC_0034524"],
}
NAMES = [name for names in PARTS.values() for name in names]
LABELS = [0, 1, 2, 3, 4, 5, 6, 0, 1, 6]
LESIONS = [f"HAM_000{i}" for i in (0, 0, 1, 2, 3, 4, 4)]


@pytest.fixture
def root(tmp_path):
    """Seven training images, each of another class, of five lesions; two and one of the other parts."""
    one_hot = pd.DataFrame(np.eye(7)[LABELS], columns=list(DIAGNOSES))
    one_hot.insert(0, "image", NAMES)
    for part, names in PARTS.items():
        folder = tmp_path / f"ISIC2018_Task3_{part}_Input"
        folder.mkdir()
        for name in names:
            Image.fromarray(np.full((6, 5, 3), 20 * NAMES.index(name), dtype=np.uint8)).save(
                folder / f"{name}.jpg"
            )
        truth = tmp_path / f"ISIC2018_Task3_{part}_GroundTruth.csv"
        one_hot[one_hot["image"].isin(names)].to_csv(truth, index=False)
    pd.DataFrame(
        {
            "image": PARTS["Training"][::-1],
            "lesion_id": LESIONS[::-1],
            "diagnosis_confirm_type": ["histopathology", *["serial imaging"] * 6],
        }
    ).to_csv(tmp_path / "ISIC2018_Task3_Training_LesionGroupings.csv", index=False)
    return tmp_path


def test_rows_labels_groups_splits_and_columns(root):
    table = isic2018(root)
    assert table.frame["sample_id"].tolist() == NAMES
    assert table.frame["label"].tolist() == [int(label == 0) for label in LABELS]
    assert table.frame["group"].tolist() == [*LESIONS, *NAMES[7:]]
    assert table.has_groups
    assert table.frame["split"].tolist() == ["train"] * 7 + ["val"] * 2 + ["test"]
    assert table.metadata == [*DIAGNOSES[1:], "diagnosis_confirm_type"]
    assert table.frame["diagnosis_confirm_type"].tolist()[5:7] == ["serial imaging", "histopathology"]
    assert table.frame["NV"].tolist() == [int(label == 1) for label in LABELS]
    assert table.classes == ("other", "MEL")
    assert table.shape == (3, 6, 5)
    assert table.image(9).mean().item() == pytest.approx(180 / 255, abs=0.01)
    assert table.mask(0) is None
    table.assert_groups_apart()


@pytest.mark.parametrize("target", DIAGNOSES)
def test_each_diagnosis_can_be_the_label(root, target):
    expected = [int(label == DIAGNOSES.index(target)) for label in LABELS]
    assert isic2018(root, target=target).frame["label"].tolist() == expected


def test_all_diagnoses_at_once(root):
    table = open_dataset("isic2018", root, target=None, size=4)
    assert table.frame["label"].tolist() == LABELS
    assert table.classes == DIAGNOSES
    assert table.metadata == ["diagnosis_confirm_type"]
    with pytest.raises(InputError, match="target must be one of 'MEL', 'NV'"):
        isic2018(root, target="melanoma")
    with pytest.raises(InputError, match=r"task must be 3 .* not 2"):
        isic2018(root, task=2)


def test_parts_may_be_absent_but_not_all(root):
    for name in ("Training", "Validation"):
        (root / f"ISIC2018_Task3_{name}_GroundTruth.csv").unlink()
        (root / f"ISIC2018_Task3_{name}_Input").rename(root / name)
    table = isic2018(root)
    assert set(table.frame["split"]) == {"test"}
    assert not table.has_groups
    listing = pd.DataFrame({"image": PARTS["Test"], "lesion_id": "HAM_9"})
    listing.to_csv(root / "ISIC2018_Task3_Test_LesionGroupings.csv", index=False)
    assert isic2018(root).frame["group"].tolist() == ["HAM_9"]
    (root / "ISIC2018_Task3_Test_Input").rename(root / "Test")
    with pytest.raises(LayoutError, match="no folder 'ISIC2018_Task3_Test_Input'"):
        isic2018(root)
    (root / "ISIC2018_Task3_Test_GroundTruth.csv").unlink()
    with pytest.raises(LayoutError, match=r"no folder 'ISIC2018_Task3_Training_Input' or(.|\n)*isic-archive"):
        isic2018(root)


TRUTH = "ISIC2018_Task3_Training_GroundTruth.csv"
LESION = "ISIC2018_Task3_Training_LesionGroupings.csv"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (TRUTH, lambda frame: frame.drop(columns="VASC"), "lacks the column 'VASC'"),
        (TRUTH, lambda frame: frame.assign(MEL=0.0), r"1 image\(s\) do not have one diagnosis"),
        (TRUTH, lambda frame: frame.assign(image="ISIC_1"), r"1 image\(s\) are named more than once"),
        (LESION, lambda frame: frame.drop(columns="lesion_id"), "lacks the column 'lesion_id'"),
        (
            LESION,
            lambda frame: frame.iloc[1:],
            r"1 image\(s\) are not in .*LesionGroupings.csv: 'ISIC_0024306'",
        ),
        (LESION, lambda frame: pd.concat([frame, frame]), r"7 image\(s\) are in .* more than once"),
    ],
)
def test_malformed_parts(root, name, change, message):
    change(pd.read_csv(root / name)).to_csv(root / name, index=False)
    with pytest.raises(LayoutError, match=message):
        isic2018(root)


def test_missing_files(root):
    (root / "ISIC2018_Task3_Validation_Input" / "ISIC_0034322.jpg").unlink()
    with pytest.raises(LayoutError, match=r"1 image\(s\) are missing in ISIC2018_Task3_Validation_Input"):
        isic2018(root)
    (root / LESION).unlink()
    with pytest.raises(LayoutError, match=f"no file {LESION!r}"):
        isic2018(root)


# Task 1


SEGMENTED = [f"ISIC_000000{i}" for i in range(6)]


@pytest.fixture
def segmented(tmp_path):
    """Six segmented images, of which five are annotated, and a trap set of four of them."""
    images, masks = (
        tmp_path / "ISIC2018_Task1-2_Training_Input",
        tmp_path / "ISIC2018_Task1_Training_GroundTruth",
    )
    images.mkdir()
    masks.mkdir()
    for i, name in enumerate(SEGMENTED):
        Image.fromarray(np.full((6, 5, 3), 20 * i, dtype=np.uint8)).save(images / f"{name}.jpg")
        mask = np.zeros((6, 5), dtype=np.uint8)
        mask[:i] = 255
        Image.fromarray(mask).save(masks / f"{name}_segmentation.png")
    frame = pd.DataFrame({"image": [f"{name}.png" for name in SEGMENTED[:5]], "ruler": [1, 0, 1, 0, 1]})
    frame["label"] = [1, 0, 1, 0, 0]
    frame["label_string"] = frame["label"].map({0: "benign", 1: "malignant"})
    frame.to_csv(tmp_path / "isic_bias.csv", sep=";")
    trap = frame.assign(vasc=[0, 1, 0, 1, 0])
    for split, rows in (("train", [0, 3]), ("val", [1]), ("test", [4])):
        trap.iloc[rows].to_csv(tmp_path / f"isic_annotated_{split}1.csv")
    return tmp_path


def test_task_1_takes_its_labels_from_the_annotations(segmented):
    table = isic2018(segmented, task=1, annotations=segmented / "isic_bias.csv")
    assert table.frame["sample_id"].tolist() == SEGMENTED[:5]
    assert table.frame["label"].tolist() == [1, 0, 1, 0, 0]
    assert set(table.frame["split"]) == {"train"}
    assert table.classes == ("benign", "malignant")
    assert table.metadata == ["ruler"]
    assert [table.mask(i).sum().item() for i in range(5)] == [0, 5, 10, 15, 20]
    trap = with_trap_set(table, segmented)
    assert trap.frame["sample_id"].tolist() == [SEGMENTED[i] for i in (0, 1, 3, 4)]
    assert trap.frame["split"].tolist() == ["train", "val", "train", "test"]
    assert trap.frame["vasc"].tolist() == [0, 1, 1, 0]
    assert trap.mask(2).sum().item() == 15


def test_task_1_with_something_missing(segmented):
    path = segmented / "isic_bias.csv"
    with pytest.raises(InputError, match="task 1 of ISIC 2018 publishes no diagnoses; give annotations="):
        isic2018(segmented, task=1)
    with pytest.raises(InputError, match="target='NV' is for task 3"):
        isic2018(segmented, task=1, target="NV", annotations=path)
    (segmented / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000002_segmentation.png").unlink()
    with pytest.raises(LayoutError, match=r"1 image\(s\) have no segmentation .*'ISIC_0000002'"):
        isic2018(segmented, task=1, annotations=path)
    (segmented / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000001.jpg").unlink()
    with pytest.raises(LayoutError, match=r"1 image\(s\) are missing in ISIC2018_Task1-2_Training_Input"):
        isic2018(segmented, task=1, annotations=path)
    with pytest.raises(LayoutError, match="no folder 'ISIC2018_Task1-2_Training_Input'"):
        isic2018(segmented / "none", task=1, annotations=path)


def test_ten_thousand_rows_are_indexed_and_none_is_opened(tmp_path):
    names = [f"ISIC_{i:07d}" for i in range(10_000)]
    folder = tmp_path / "ISIC2018_Task3_Training_Input"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.jpg").touch()  # an empty file is no image: opening it would fail
    one_hot = pd.DataFrame(np.eye(7)[np.arange(10_000) % 7], columns=list(DIAGNOSES))
    one_hot.insert(0, "image", names)
    one_hot.to_csv(tmp_path / TRUTH, index=False)
    listing = pd.DataFrame({"image": names, "lesion_id": np.arange(10_000) // 2})
    listing.to_csv(tmp_path / LESION, index=False)
    start = time.process_time()
    table = isic2018(tmp_path, target=None)
    assert time.process_time() - start < 5
    assert len(table) == 10_000
    assert table.frame["group"].nunique() == 5_000
    with pytest.raises(InputError, match="cannot read"):
        table.image(0)
