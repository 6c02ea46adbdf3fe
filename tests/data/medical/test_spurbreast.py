import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.data.medical.spurbreast import FEATURES, spurbreast
from shortcutscope.errors import InputError

PATIENTS = {"training": {0: "001", 1: "002"}, "validation": {0: "3", 1: "4"}, "test": {0: "905", 1: "905"}}


@pytest.fixture
def tree(tmp_path):
    """Two slices for each split and label, empty files; the test patient has both labels."""
    for feature in ("field_strength", "menopause"):
        for split, patients in PATIENTS.items():
            for label, patient in patients.items():
                folder = tmp_path / feature / split / str(label)
                folder.mkdir(parents=True)
                for number in (10, 11):
                    (folder / f"post_1-{number}-{patient}.png").touch()
    return tmp_path


def test_splits_patients_and_the_feature(tree):
    table = open_dataset("spurbreast", tree)
    frame = table.frame
    assert frame["split"].tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert frame["label"].tolist() == [0, 0, 1, 1] * 3
    assert frame["group"].tolist()[:8] == [f"Breast_MRI_00{k}" for k in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert set(frame["group"][8:]) == {"Breast_MRI_905"}
    assert table.has_groups
    table.assert_groups_apart()
    assert list(table.files.values())[3] == "training/1/post_1-11-002.png"
    assert table.metadata == ["prefix", "slice", "field_strength"]
    assert frame["prefix"].tolist() == ["post_1"] * 12
    assert frame["slice"].tolist() == [10, 11] * 6
    assert frame["field_strength"].tolist()[:8] == [3, 3, 1.5, 1.5] * 2
    assert frame["field_strength"][8:].isna().all()
    assert table.classes == ("no tumour", "tumour")


def test_other_features_are_not_told_by_the_names(tree):
    assert spurbreast(tree, feature="menopause").metadata == ["prefix", "slice"]
    with pytest.raises(InputError, match="no feature 'age'; SpurBreast has field_strength"):
        spurbreast(tree, feature="age")
    for feature in set(FEATURES) - {"field_strength", "menopause"}:
        with pytest.raises(LayoutError, match=f"no folder '{feature}'"):
            spurbreast(tree, feature=feature)


def test_columns_of_the_patients_join(tree, tmp_path):
    path = tmp_path / "clinical.csv"
    path.write_text("Patient ID,field_strength,age\nBreast_MRI_905,1.5,50\nBreast_MRI_001,3.0,61\n")
    frame = spurbreast(tree, patients=path).frame
    assert frame["field_strength"].iloc[[0, 8]].tolist() == [3, 1.5]
    assert frame["field_strength"].isna().sum() == 6
    assert frame["age"].iloc[[1, 9]].tolist() == [61, 50]
    path.write_text("patient,menopause\n001,pre\n2,post\n905,pre\n")
    menopause = spurbreast(tree, feature="menopause", patients=path).frame["menopause"]
    assert menopause.iloc[[0, 2, 8]].tolist() == ["pre", "post", "pre"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,age\n1,50\n", "none of the columns 'Patient ID'"),
        ("patient,age\n1,50\n001,51\n", "several rows for 'Breast_MRI_001'"),
        ("patient,age\nx,50\n", "names none of the patients"),
        ("patient,label\n1,50\n", "rename the columns 'label'"),
    ],
)
def test_tables_of_patients_that_cannot_be(tree, tmp_path, text, said):
    path = tmp_path / "clinical.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        spurbreast(tree, patients=path)


def test_images_are_read_as_they_are(tree):
    for path in (tree / "menopause").rglob("*.png"):
        Image.fromarray(np.full((8, 8), 51, dtype=np.uint8)).save(path)
    table = spurbreast(tree, feature="menopause").verify(progress=False)
    assert table.shape == (1, 8, 8)
    assert table.image(0).unique().tolist() == pytest.approx([0.2])


def test_other_layouts_are_refused(tree):
    first = tree / "field_strength" / "training" / "0" / "post_1-10-001.png"
    first.rename(first.with_name("10.png"))
    with pytest.raises(LayoutError, match=r"(?s)the name '10\.png'.*<prefix>-<slice>-<patient>.*zenodo"):
        spurbreast(tree)
    for path in first.parent.glob("*.png"):
        path.unlink()
    with pytest.raises(LayoutError, match="has no images"):
        spurbreast(tree)
    first.parent.rmdir()
    with pytest.raises(LayoutError, match="no folder 'training/0'"):
        spurbreast(tree)
    with pytest.raises(LayoutError, match="no folder 'field_strength'"):
        spurbreast(tree / "menopause")


def test_ten_thousand_images_are_not_opened(tree):
    for k in range(10_000):
        (tree / "field_strength" / "test" / "0" / f"post-{k}-{k % 150}.png").touch()
    table = spurbreast(tree)
    assert len(table) == 10_012
    assert pd.Series(table.frame["group"]).nunique() == 151
