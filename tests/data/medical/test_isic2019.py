from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.isic2019 import DIAGNOSES, isic2019
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.errors import InputError

TRAIN = ["ISIC_0000000", "ISIC_0000030_downsampled", *(f"ISIC_005346{i}" for i in range(6))]
TEST = ["ISIC_0034321", "ISIC_0034322"]
NAMES = TRAIN + TEST
LABELS = [*range(8), 8, 0]
LESIONS = [None, "MSK4_1", "MSK4_1", "BCN_2", "BCN_2", "BCN_3", None, "HAM_4"]
EXTRA = "ISIC_2019_Training_Metadata.csv"
TRUTH = "ISIC_2019_Training_GroundTruth.csv"


@pytest.fixture
def root(tmp_path):
    """Eight training images, each of another class, two of them of no known lesion; two test images."""
    one_hot = pd.DataFrame(np.eye(9)[LABELS], columns=list(DIAGNOSES))
    one_hot.insert(0, "image", NAMES)
    extra = pd.DataFrame(
        {
            "image": NAMES,
            "age_approx": [55.0, None, *range(8)],
            "anatom_site_general": ["anterior torso", None, *["head/neck"] * 8],
            "lesion_id": LESIONS + [None] * 2,
            "sex": ["female", "male", None, *["male"] * 7],
        }
    )
    for part, rows in (("Training", slice(0, 8)), ("Test", slice(8, 10))):
        folder = tmp_path / f"ISIC_2019_{part}_Input"
        folder.mkdir()
        for name in NAMES[rows]:
            pixels = np.full((6, 5, 3), 20 * NAMES.index(name), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.jpg")
        one_hot[rows].to_csv(tmp_path / f"ISIC_2019_{part}_GroundTruth.csv", index=False)
    extra[:8].iloc[::-1].to_csv(tmp_path / EXTRA, index=False)
    extra[8:].drop(columns="lesion_id").to_csv(tmp_path / "ISIC_2019_Test_Metadata.csv", index=False)
    return tmp_path


def test_rows_labels_groups_splits_and_columns(root):
    table = isic2019(root)
    assert table.frame["sample_id"].tolist() == NAMES
    assert table.frame["label"].tolist() == [int(label == 0) for label in LABELS]
    known = [lesion or name for lesion, name in zip(LESIONS, TRAIN, strict=True)]
    assert table.frame["group"].tolist() == [*known, *TEST]
    assert table.has_groups
    assert table.frame["split"].tolist() == ["train"] * 8 + ["test"] * 2
    assert table.metadata == [*DIAGNOSES[1:], "age_approx", "anatom_site_general", "sex"]
    assert table.frame["age_approx"].fillna(-1).tolist() == [55, -1, *range(8)]
    assert table.frame["anatom_site_general"].fillna("?").tolist() == [
        "anterior torso",
        "?",
        *["head/neck"] * 8,
    ]
    assert table.frame["sex"].fillna("?").tolist() == ["female", "male", "?", *["male"] * 7]
    assert table.classes == ("other", "MEL")
    assert table.shape == (3, 6, 5)
    assert table.image(9).mean().item() == pytest.approx(180 / 255, abs=0.01)
    table.assert_groups_apart()


@pytest.mark.parametrize("target", DIAGNOSES)
def test_each_diagnosis_can_be_the_label(root, target):
    expected = [int(label == DIAGNOSES.index(target)) for label in LABELS]
    assert isic2019(root, target=target).frame["label"].tolist() == expected


def test_all_diagnoses_at_once(root):
    table = open_dataset("isic2019", root, target=None)
    assert table.frame["label"].tolist() == LABELS
    assert table.classes == DIAGNOSES
    with pytest.raises(InputError, match="target must be one of 'MEL'"):
        isic2019(root, target="melanoma")


def test_parts_may_be_absent_but_not_all(root):
    (root / "ISIC_2019_Test_Input").rename(root / "test")
    with pytest.raises(LayoutError, match="no folder 'ISIC_2019_Test_Input'"):
        isic2019(root)
    (root / "ISIC_2019_Test_GroundTruth.csv").unlink()
    assert set(isic2019(root).frame["split"]) == {"train"}
    (root / EXTRA).rename(root / "metadata.csv")
    with pytest.raises(LayoutError, match=f"no file '{EXTRA}'"):
        isic2019(root)
    (root / TRUTH).unlink()
    (root / "ISIC_2019_Training_Input").rename(root / "train")
    with pytest.raises(LayoutError, match=r"no folder 'ISIC_2019_Training_Input' or(.|\n)*isic-archive"):
        isic2019(root)


def test_no_groups_without_lesions(root):
    (root / TRUTH).unlink()
    (root / "ISIC_2019_Training_Input").rename(root / "train")
    assert not isic2019(root).has_groups


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (TRUTH, lambda frame: frame.drop(columns="SCC"), "lacks the column 'SCC'"),
        (TRUTH, lambda frame: frame.assign(NV=1.0), r"7 image\(s\) do not have one diagnosis"),
        (TRUTH, lambda frame: frame.iloc[[0, 0]], r"1 image\(s\) are named more than once"),
        (
            TRUTH,
            lambda frame: frame.replace("ISIC_0000000", "ISIC_9"),
            r"1 image\(s\) are missing in .*: 'ISIC_9.jpg'",
        ),
        (EXTRA, lambda frame: frame.drop(columns="lesion_id"), "lacks the column 'lesion_id'"),
        (EXTRA, lambda frame: frame.iloc[1:], rf"1 image\(s\) are not in {EXTRA}"),
        (EXTRA, lambda frame: pd.concat([frame, frame]), rf"8 image\(s\) are in {EXTRA} more than once"),
    ],
)
def test_malformed_parts(root, name, change, message):
    change(pd.read_csv(root / name)).to_csv(root / name, index=False)
    with pytest.raises(LayoutError, match=message):
        isic2019(root)


def test_artifact_lists_are_joined(root, tmp_path):
    path = tmp_path / "artifacts_isic.json"
    path.write_text(json.dumps({"ruler": ["ISIC_0000030_downsampled"], "band_aid": ["ISIC_0053460"]}))
    table = isic2019(root, annotations=path)
    assert np.flatnonzero(table.frame["ruler"]).tolist() == [1]
    assert np.flatnonzero(table.frame["band_aid"]).tolist() == [2]


def test_ten_thousand_rows_are_indexed_and_none_is_opened(tmp_path):
    names = [f"ISIC_{i:07d}" for i in range(10_000)]
    folder = tmp_path / "ISIC_2019_Training_Input"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.jpg").touch()  # an empty file is no image: opening it would fail
    one_hot = pd.DataFrame(np.eye(9)[np.arange(10_000) % 9], columns=list(DIAGNOSES))
    one_hot.insert(0, "image", names)
    one_hot.to_csv(tmp_path / TRUTH, index=False)
    extra = pd.DataFrame(
        {"image": names, "age_approx": 50, "anatom_site_general": "head/neck", "sex": "male"}
    )
    extra.assign(lesion_id=np.arange(10_000) // 4).to_csv(tmp_path / EXTRA, index=False)
    start = time.process_time()
    table = isic2019(tmp_path)
    assert time.process_time() - start < 5
    assert len(table) == 10_000
    assert table.frame["group"].nunique() == 2_500
    with pytest.raises(InputError, match="cannot read"):
        table.image(0)
