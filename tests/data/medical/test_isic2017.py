from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.isic2017 import isic2017
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.errors import InputError

PARTS = {"Training": ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002"], "Validation": ["ISIC_0001769"]}
PARTS["Test_v2"] = ["ISIC_0012086", "ISIC_0012092"]
NAMES = [name for names in PARTS.values() for name in names]
MELANOMA = [0, 1, 0, 1, 0, 0]
KERATOSIS = [0, 0, 1, 0, 1, 0]
AGES = ["55", "30", "unknown", "60", "", "85"]
SEXES = ["female", "male", "unknown", "male", "female", "unknown"]


def tables(part):
    """The table of diagnoses and the further columns of one part."""
    rows = [NAMES.index(name) for name in PARTS[part]]
    truth = pd.DataFrame(
        {
            "image_id": PARTS[part],
            "melanoma": [float(MELANOMA[i]) for i in rows],
            "seborrheic_keratosis": [float(KERATOSIS[i]) for i in rows],
        }
    )
    extra = pd.DataFrame(
        {
            "image_id": PARTS[part],
            "age_approximate": [AGES[i] for i in rows],
            "sex": [SEXES[i] for i in rows],
        }
    )
    return truth, extra


@pytest.fixture
def root(tmp_path):
    """Six images in three parts, segmentations of the training images but the last, superpixels."""
    for part, names in PARTS.items():
        folder = tmp_path / f"ISIC-2017_{part}_Data"
        folder.mkdir()
        truth, extra = tables(part)
        truth.to_csv(tmp_path / f"ISIC-2017_{part}_Part3_GroundTruth.csv", index=False)
        extra.iloc[::-1].to_csv(folder / f"ISIC-2017_{part}_Data_metadata.csv", index=False)
        for name in names:
            pixels = np.full((6, 5, 3), 20 * NAMES.index(name), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.jpg")
            Image.fromarray(pixels).save(folder / f"{name}_superpixels.png")
    masks = tmp_path / "ISIC-2017_Training_Part1_GroundTruth"
    masks.mkdir()
    for i, name in enumerate(PARTS["Training"][:2]):
        mask = np.zeros((6, 5), dtype=np.uint8)
        mask[: i + 1] = 255
        Image.fromarray(mask).save(masks / f"{name}_segmentation.png")
    return tmp_path


def test_rows_labels_splits_columns_and_masks(root):
    table = isic2017(root)
    assert table.frame["sample_id"].tolist() == NAMES
    assert table.frame["label"].tolist() == MELANOMA
    assert table.frame["split"].tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    assert table.metadata == ["seborrheic_keratosis", "age_approximate", "sex"]
    assert table.frame["seborrheic_keratosis"].tolist() == KERATOSIS
    assert table.frame["age_approximate"].fillna(-1).tolist() == [55, 30, -1, 60, -1, 85]
    assert table.frame["sex"].fillna("?").tolist() == ["female", "male", "?", "male", "female", "?"]
    assert not table.has_groups
    assert table.classes == ("other", "melanoma")
    assert table.shape == (3, 6, 5)
    assert table.image(5).mean().item() == pytest.approx(100 / 255, abs=0.01)
    assert [table.mask(i) is None for i in range(6)] == [False, False, True, True, True, True]
    assert table.mask(1).sum().item() == 10
    assert len(table.verify(progress=False)) == 6


def test_targets(root):
    table = isic2017(root, target="seborrheic_keratosis")
    assert table.frame["label"].tolist() == KERATOSIS
    assert "melanoma" in table.metadata
    table = open_dataset("isic2017", root, target=None)
    assert table.classes == ("nevus", "melanoma", "seborrheic_keratosis")
    assert table.frame["label"].tolist() == [0, 1, 2, 1, 2, 0]
    assert table.metadata == ["age_approximate", "sex"]
    with pytest.raises(InputError, match="target must be one of 'melanoma', 'seborrheic_keratosis' or None"):
        isic2017(root, target="MEL")


def remove(root, part):
    for path in (root / f"ISIC-2017_{part}_Data").iterdir():
        path.unlink()
    (root / f"ISIC-2017_{part}_Data").rmdir()
    (root / f"ISIC-2017_{part}_Part3_GroundTruth.csv").unlink()


def test_parts_may_be_absent_but_not_all(root):
    remove(root, "Validation")
    assert set(isic2017(root).frame["split"]) == {"train", "test"}
    remove(root, "Test_v2")
    assert set(isic2017(root).frame["split"]) == {"train"}
    truth = "ISIC-2017_Training_Part3_GroundTruth"
    (root / truth).mkdir()
    (root / f"{truth}.csv").rename(root / truth / f"{truth}.csv")  # as its archive unpacks
    assert len(isic2017(root)) == 3
    (root / truth / f"{truth}.csv").unlink()
    with pytest.raises(LayoutError, match=r"no file 'ISIC-2017_Training_Part3(.|\n)*isic-archive"):
        isic2017(root)
    (root / "ISIC-2017_Training_Data").rename(root / "images")
    with pytest.raises(LayoutError, match="no folder 'ISIC-2017_Training_Data' or 'ISIC-2017_Validation"):
        isic2017(root)
    with pytest.raises(LayoutError, match="no folder"):
        isic2017(root / "elsewhere")


def test_segmentations_may_be_absent(root):
    for path in (root / "ISIC-2017_Training_Part1_GroundTruth").iterdir():
        path.unlink()
    assert all(isic2017(root).mask(i) is None for i in range(6))


def edited(root, name, change):
    path = root / name
    change(pd.read_csv(path)).to_csv(path, index=False)
    return root


TRUTH = "ISIC-2017_Training_Part3_GroundTruth.csv"
EXTRA = "ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (TRUTH, lambda frame: frame.drop(columns="melanoma"), "lacks the column 'melanoma'"),
        (TRUTH, lambda frame: frame.assign(melanoma=0.5), r"3 image\(s\) do not have one diagnosis"),
        (
            TRUTH,
            lambda frame: frame.assign(melanoma=1.0),
            r"1 image\(s\) do not have one .*: 'ISIC_0000002'",
        ),
        (TRUTH, lambda frame: frame.assign(image_id="ISIC_0000000"), r"1 image\(s\) are named more than"),
        (
            TRUTH,
            lambda frame: frame.assign(image_id=[*frame["image_id"][:2], "ISIC_7"]),
            r"1 image\(s\) are missing in ISIC-2017_Training_Data: 'ISIC_7.jpg'",
        ),
        (EXTRA, lambda frame: frame.drop(columns="sex"), "lacks the column 'sex'"),
        (EXTRA, lambda frame: frame.assign(age_approximate="old"), "ages that are no numbers: 'old'"),
        (EXTRA, lambda frame: frame.iloc[:2], r"1 image\(s\) are not in ISIC-2017_Training_Data_metadata"),
        (EXTRA, lambda frame: pd.concat([frame, frame]), r"3 image\(s\) are in .* more than once"),
    ],
)
def test_malformed_parts(root, name, change, message):
    with pytest.raises(LayoutError, match=message):
        isic2017(edited(root, name, change))


def test_artifacts_are_joined(root, tmp_path):
    frame = pd.DataFrame(
        {"image": [f"{name}.png" for name in NAMES[:5]], "ruler": [1, 0, 1, 0, 1], "label": 0}
    )
    frame.to_csv(tmp_path / "isic_bias.csv", sep=";")
    table = isic2017(root, annotations=tmp_path / "isic_bias.csv")
    assert table.frame["ruler"].fillna(-1).tolist() == [1, 0, 1, 0, 1, -1]


def test_ten_thousand_rows_are_indexed_and_none_is_opened(tmp_path):
    names = [f"ISIC_{i:07d}" for i in range(10_000)]
    folder, masks = tmp_path / "ISIC-2017_Training_Data", tmp_path / "ISIC-2017_Training_Part1_GroundTruth"
    folder.mkdir()
    masks.mkdir()
    for name in names:  # empty files are no images: opening one would fail
        (folder / f"{name}.jpg").touch()
        (masks / f"{name}_segmentation.png").touch()
    truth = pd.DataFrame({"image_id": names, "melanoma": 0.0, "seborrheic_keratosis": 0.0})
    truth.to_csv(tmp_path / TRUTH, index=False)
    pd.DataFrame({"image_id": names, "age_approximate": 50, "sex": "male"}).to_csv(
        tmp_path / EXTRA, index=False
    )
    start = time.process_time()
    table = isic2017(tmp_path)
    assert time.process_time() - start < 5
    assert len(table) == 10_000
    with pytest.raises(InputError, match="cannot read"):
        table.image(0)
