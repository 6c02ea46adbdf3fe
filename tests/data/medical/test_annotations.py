from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope import ImageTable
from shortcutscope.data.medical.annotations import (
    image_key,
    read_annotations,
    with_annotations,
    with_artifact_lists,
    with_artifacts,
    with_pacemakers,
    with_trap_set,
)
from shortcutscope.errors import InputError

NAMES = [f"ISIC_000000{i}" for i in range(6)]
HEADER = "dark_corner;hair;gel_border;gel_bubble;ruler;ink;patches"
ARTIFACTS = HEADER.split(";")


def table_of(names, **columns):
    frame = pd.DataFrame({"sample_id": names, "label": np.arange(len(names)) % 2, **columns})
    return ImageTable.from_arrays(np.zeros((len(names), 4, 4)), frame)


@pytest.fixture
def table():
    return table_of(NAMES)


def csv_lines(names, separator=";", extra=""):
    """As published: a column of row numbers without a name, image, artifacts, label, label_string."""
    rows = [separator.join(["", "image", *ARTIFACTS, *filter(None, [extra]), "label", "label_string"])]
    for i, name in enumerate(names):
        values = [int(i == k) for k in range(7)] + ([i % 2] if extra else [])
        kind = "malignant" if i % 3 == 0 else "benign"
        rows.append(separator.join(map(str, [i, f"{name}.png", *values, int(i % 3 == 0), kind])))
    return "\n".join(rows) + "\n"


@pytest.fixture
def bias(tmp_path):
    """Annotations of five of the six images, not in their order."""
    path = tmp_path / "isic_bias.csv"
    path.write_text(csv_lines([NAMES[i] for i in (4, 3, 2, 1, 0)]))
    return path


def test_names_are_compared_without_folder_suffix_and_downsampled():
    assert image_key("ISIC_0000001.png") == image_key("a/ISIC_0000001_downsampled.jpg") == "ISIC_0000001"
    study = "patient00001_study2_view1_frontal"
    assert image_key("CheXpert-v1.0-small/train/patient00001/study2/view1_frontal.jpg") == study
    assert image_key(f"{study}.jpg") == study
    assert image_key("1.2.840.113") == "1.2.840.113"  # the end of a DICOM id is no suffix


@given(st.text("abcdefghij0123456789_-", min_size=1), st.sampled_from([".jpg", ".PNG", ""]))
def test_a_key_is_its_own_key(name, suffix):
    key = image_key(f"folder/{name}{suffix}")
    assert image_key(key + suffix) == key or key.endswith("_downsampled")


def test_every_artifact_becomes_a_column_and_the_rest_is_unknown(table, bias):
    joined = with_artifacts(table, bias)
    assert joined.metadata == ARTIFACTS
    for k, artifact in enumerate(ARTIFACTS):
        expected = [float(4 - i == k) for i in range(5)] + [-1]
        assert joined.frame[artifact].fillna(-1).tolist() == expected
    assert joined.frame["label"].tolist() == table.frame["label"].tolist()
    whole = with_artifacts(table.take(range(5)), bias)
    assert whole.frame["hair"].dtype == np.int64


def test_artifacts_can_be_chosen_and_named(table, bias):
    assert with_artifacts(table, bias, columns=["ruler"]).metadata == ["ruler"]
    assert with_artifacts(table, bias, columns={"ruler": "scale"}).metadata == ["scale"]
    with pytest.raises(InputError, match="no column 'rulers'"):
        with_artifacts(table, bias, columns=["rulers"])
    with pytest.raises(InputError, match=r"column\(s\) 'label_string' .* more than 0 and 1"):
        with_artifacts(table, bias, columns=["label_string"])
    with pytest.raises(InputError, match="the table has a column 'ruler' already"):
        with_artifacts(table.with_columns(ruler=np.zeros(6)), bias)


def test_names_that_match_no_image_are_counted(table, bias):
    part = table.take([0, 1, 5])
    with pytest.raises(InputError, match=r"3 of the 5 image names in .*'ISIC_0000004'.*unmatched=\"ignore\""):
        with_artifacts(part, bias)
    joined = with_artifacts(part, bias, unmatched="ignore")
    assert joined.frame["ink"].isna().tolist() == [False, False, True]
    for unmatched in ("raise", "ignore"):
        with pytest.raises(InputError, match=r"5 of the 5 image names .* of this data set"):
            with_artifacts(table_of(["a", "b"]), bias, unmatched=unmatched)
    with pytest.raises(InputError, match='unmatched must be "raise" or "ignore"'):
        with_artifacts(table, bias, unmatched="skip")


def test_annotations_that_cannot_be_read(table, tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(InputError, match="no such file of annotations"):
        with_artifacts(table, path)
    path.write_text("")
    with pytest.raises(InputError, match="cannot read the annotations"):
        with_artifacts(table, path)
    path.write_text("file,ruler\na.png,1\n")
    with pytest.raises(InputError, match=r"no column of image names(.|\n)*isic_bias.csv"):
        with_artifacts(table, path)
    path.write_text("image,ruler\n")
    with pytest.raises(InputError, match="has no rows"):
        with_artifacts(table, path)
    path.write_text("image,ruler\nISIC_0000000.png,2\n")
    with pytest.raises(InputError, match="no column of only 0 and 1; it has 'ruler'"):
        with_artifacts(table, path)
    path.write_text("image,ruler\nISIC_0000000.png,1\nISIC_0000000.jpg,0\n")
    with pytest.raises(InputError, match=r"1 image\(s\) twice with different values: 'ISIC_0000000'"):
        with_artifacts(table, path)
    path.write_text("image,ruler\nISIC_0000000.png,1\nISIC_0000000.jpg,1\n")
    assert len(read_annotations(path)) == 1


def test_pacemakers(tmp_path):
    names = [f"train/patient0000{i}/study1/view1_frontal.jpg" for i in range(3)]
    path = tmp_path / "che_pm_shortcut_labels.csv"
    lines = ["img_name,Cardiomegaly,PM,split"]
    lines += [f"patient0000{i}_study1_view1_frontal.jpg,1,{i},train" for i in (1, 0)]
    path.write_text("\n".join(lines))
    joined = with_pacemakers(table_of(names), path)
    assert joined.metadata == ["pacemaker"]
    assert joined.frame["pacemaker"].fillna(-1).tolist() == [0, 1, -1]
    path.write_text("img_name,Cardiomegaly\npatient00000_study1_view1_frontal.jpg,1\n")
    with pytest.raises(InputError, match="no column 'PM'"):
        with_pacemakers(table_of(names), path)


# Lists of images


@pytest.fixture
def lists(tmp_path):
    path = tmp_path / "artifacts_isic.json"
    listing = {
        "band_aid": ["ISIC_0000001_downsampled"],
        "ruler": ["train/ISIC_0000003.jpg", NAMES[1]],
        "ink": [],
    }
    path.write_text(json.dumps(listing))
    return path


def test_lists_of_images(table, lists):
    joined = with_artifact_lists(table, lists)
    assert joined.metadata == ["band_aid", "ruler", "ink"]
    assert joined.frame["band_aid"].tolist() == [0, 1, 0, 0, 0, 0]
    assert joined.frame["ruler"].tolist() == [0, 1, 0, 1, 0, 0]
    assert joined.frame["ink"].tolist() == [0] * 6
    unknown = with_artifact_lists(table, lists, unlisted="unknown")
    assert unknown.frame["ruler"].fillna(-1).tolist() == [-1, 1, -1, 1, -1, -1]
    assert with_annotations(table, lists).frame.equals(joined.frame)
    with pytest.raises(InputError, match=r"1 of the 2 image names in .*'ISIC_0000003'"):
        with_artifact_lists(table.take([0, 1]), lists)
    with pytest.raises(InputError, match='unlisted must be "absent" or "unknown"'):
        with_artifact_lists(table, lists, unlisted="0")


def test_lists_of_another_form(table, tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match="no such file of annotations"):
        with_artifact_lists(table, path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot read the annotations"):
        with_artifact_lists(table, path)
    for listing in (["a"], {"ruler": "ISIC_0000001"}, {"ruler": [1]}, {"ruler": []}, {}):
        path.write_text(json.dumps(listing))
        with pytest.raises(InputError, match="does not list images by artifact; expected"):
            with_artifact_lists(table, path)


# Trap sets


@pytest.fixture
def trap(tmp_path):
    """Trap set 2: four training images, of which one is for validation, and one for testing."""
    for split, names in (("train", [*NAMES[:3], NAMES[5]]), ("val", [NAMES[5]]), ("test", [NAMES[3]])):
        text = csv_lines(names, separator=",", extra="vasc")
        (tmp_path / f"isic_annotated_{split}2.csv").write_text(text)
    return tmp_path


def test_a_trap_set_gives_split_labels_and_artifacts(table, trap):
    chosen = with_trap_set(table.with_columns(ruler=np.ones(6)), trap, 2)
    assert chosen.frame["sample_id"].tolist() == [NAMES[i] for i in (0, 1, 2, 3, 5)]
    assert chosen.frame["split"].tolist() == ["train"] * 3 + ["test", "val"]
    assert chosen.frame["label"].tolist() == [1, 0, 0, 1, 1]
    assert chosen.classes == ("benign", "malignant")
    assert sorted(chosen.metadata) == sorted([*ARTIFACTS, "vasc"])
    assert chosen.frame["hair"].tolist() == [0, 1, 0, 0, 0]
    assert chosen.frame["ruler"].tolist() == [0] * 5
    assert chosen.rows.tolist() == [0, 1, 2, 3, 5]


def test_trap_sets_that_cannot_be_used(table, trap):
    with pytest.raises(InputError, match=r"no such file of annotations: .*isic_annotated_train1.csv"):
        with_trap_set(table, trap)
    with pytest.raises(InputError, match=r"1 of the 5 image names in .*trap set 2"):
        with_trap_set(table.take(range(5)), trap, 2)
    (trap / "isic_annotated_test2.csv").write_text(csv_lines(NAMES[1:4], ",", "vasc"))
    with pytest.raises(InputError, match=r"2 image\(s\) of the test set .*: 'ISIC_0000001', 'ISIC_0000002'"):
        with_trap_set(table, trap, 2)
