from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.chexpert import OBSERVATIONS, chexpert
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.errors import InputError

ROLES = ["sample_id", "label", "group", "split"]
NAMES = [
    "train/patient00001/study1/view1_frontal.jpg",
    "train/patient00002/study1/view1_frontal.jpg",
    "train/patient00002/study2/view1_frontal.jpg",
    "train/patient00002/study2/view2_lateral.jpg",
]
BATCHES = ("validate & csv", "train 1", "train 2")
VALID = ["valid/patient64541/study1/view1_frontal.jpg"]


def rows(names, prefix="CheXpert-v1.0-small/", **columns):
    frame = pd.DataFrame(
        {
            "Path": [prefix + name for name in names],
            "Sex": "Female",
            "Age": np.arange(len(names)) + 60,
            "Frontal/Lateral": ["Lateral" if "lateral" in name else "Frontal" for name in names],
            "AP/PA": [None if "lateral" in name else "AP" for name in names],
            **{name: np.full(len(names), np.nan) for name in OBSERVATIONS},
        }
    )
    return frame.assign(**columns)


@pytest.fixture
def folder(tmp_path):
    """Four images of two patients and one of a third, of which each observation has each value."""
    folder = tmp_path / "CheXpert-v1.0-small"
    values = {name: np.roll([1.0, np.nan, -1.0, 0.0], i) for i, name in enumerate(OBSERVATIONS)}
    for i, name in enumerate(NAMES + VALID):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 5), 40 * i, dtype=np.uint8)).save(folder / name)
    rows(NAMES, **values).to_csv(folder / "train.csv", index=False)
    rows(VALID, **dict.fromkeys(OBSERVATIONS, 1.0)).to_csv(folder / "valid.csv", index=False)
    return folder


def test_rows_labels_groups_splits_and_columns(folder):
    table = chexpert(folder.parent, target="No Finding")
    assert list(table.files.values()) == NAMES + VALID
    assert table.frame["label"].tolist() == [1, 0, 0, 0, 1]
    assert table.frame["group"].tolist() == ["patient00001", *["patient00002"] * 3, "patient64541"]
    assert table.frame["split"].tolist() == ["train"] * 4 + ["val"]
    assert table.frame["uncertain"].tolist() == [0, 0, 1, 0, 0]
    others = [name for name in OBSERVATIONS if name != "No Finding"]
    assert table.metadata == ["study", "Sex", "Age", "Frontal/Lateral", "AP/PA", *others, "uncertain"]
    assert table.frame["Edema"].tolist() == [0, 1, 0, 0, 1]  # as the label: blank and -1 are zeros
    assert table.frame["study"].tolist() == ["study1", "study1", "study2", "study2", "study1"]
    assert table.classes == ("Finding", "No Finding")
    assert table.shape == (1, 6, 5)
    assert table.image(2).mean().item() == pytest.approx(80 / 255, abs=0.01)
    table.assert_groups_apart()


def test_several_targets_are_labels_of_their_own(folder):
    table = chexpert(folder, target=["Edema", "No Finding"], uncertain="ignore", blank="unknown")
    assert table.labels == ("Edema", "No Finding")
    nan = np.nan
    np.testing.assert_array_equal(table.label_values[:, 1], [1, nan, nan, 0, 1])
    assert len(table.for_label("no_finding")) == 3
    assert "uncertain" not in table.frame
    assert "Edema" not in table.metadata
    assert "Fracture" in table.metadata
    zeros = chexpert(folder, target=["Edema", "No Finding"])
    assert zeros.label_values[:, 1].tolist() == [1, 0, 0, 0, 1]
    with pytest.raises(InputError, match="target must be one of"):
        chexpert(folder, target=["Edema", "Oedema"])


@pytest.mark.parametrize("target", OBSERVATIONS)
def test_each_observation_can_be_the_label(folder, target):
    table = chexpert(folder, target=target)
    expected = np.roll([1, 0, 0, 0], OBSERVATIONS.index(target))
    assert table.frame["label"].tolist() == [*expected, 1]
    assert target not in table.metadata


def test_what_becomes_of_uncertain_labels(folder):
    assert chexpert(folder, target="No Finding", uncertain="ones").frame["label"].tolist() == [1, 0, 1, 0, 1]
    kept = chexpert(folder, target="No Finding", uncertain="ignore")
    assert list(kept.files.values()) == [*NAMES[:2], NAMES[3], *VALID]
    assert "uncertain" not in kept.metadata
    assert kept.image(2).mean().item() == pytest.approx(120 / 255, abs=0.01)


def test_c5_one_convention_for_label_and_concepts(folder):
    said = chexpert(folder).notes[-1]
    assert said.endswith("'not mentioned' counts as absent, 'uncertain' counts as absent")
    edema = chexpert(folder, uncertain="ignore", blank="unknown", target="No Finding").frame["Edema"]
    published = np.roll([1.0, np.nan, -1.0, 0.0], OBSERVATIONS.index("Edema"))
    kept = np.isin(np.roll([1.0, np.nan, -1.0, 0.0], 0), [0, 1])  # whose label is known
    expected = np.where(published == -1, np.nan, published)[kept]
    np.testing.assert_array_equal(edema.to_numpy()[:-1], expected)
    with pytest.raises(InputError, match="blank must be one of 'zeros', 'unknown'"):
        chexpert(folder, blank="ones")


@pytest.mark.parametrize("inner", ["", "train/"])
def test_d8_batches_as_they_are_downloaded(folder, tmp_path, inner):
    root = tmp_path / "chexpertchestxrays-u20210408"
    first, *others = [root / f"CheXpert-v1.0 batch {i + 1} ({what})" for i, what in enumerate(BATCHES)]
    for name in NAMES + VALID:
        batch = first / "valid" if name in VALID else others["patient00002" in name] / inner.rstrip("/")
        where = batch / name.split("/", 1)[1]
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes((folder / name).read_bytes())
    for name in ("train.csv", "valid.csv"):
        (first / name).write_bytes((folder / name).read_bytes())
    there, published = chexpert(root), chexpert(folder)
    pd.testing.assert_frame_equal(there.frame, published.frame)
    assert [there.image(i).mean() for i in range(5)] == [published.image(i).mean() for i in range(5)]
    for name in ("train.csv", "valid.csv"):  # the tables may lie beside the batches
        (first / name).rename(root / name)
    pd.testing.assert_frame_equal(chexpert(root).frame, published.frame)
    (others[0] / inner / "patient00001" / "study1" / "view1_frontal.jpg").unlink()
    with pytest.raises(LayoutError, match=r"1 image\(s\) are missing"):
        chexpert(root)


def test_views(folder):
    assert list(chexpert(folder, views="frontal").files.values()) == [*NAMES[:3], *VALID]
    assert list(chexpert(folder, views="lateral").files.values()) == [NAMES[3]]


def test_folder_may_have_another_name_and_one_split(folder):
    folder = folder.rename(folder.parent / "x-rays")
    assert len(chexpert(folder)) == 5
    (folder / "valid.csv").unlink()
    assert set(chexpert(folder).frame["split"]) == {"train"}
    rows(NAMES, prefix="").to_csv(folder / "train.csv", index=False)
    assert list(chexpert(folder).files.values()) == NAMES
    folder.rename(folder.parent / "CheXpert-v1.0")
    assert len(open_dataset("chexpert", folder.parent, target="Edema", size=4)) == 4


def test_demographics_are_joined_by_patient(folder, tmp_path):
    people = pd.DataFrame(
        {
            "PATIENT": ["patient00001", "patient00002", "patient00002", "patient00009"],
            "GENDER": ["F", "F", "F", "M"],
            "AGE_AT_CXR": [60, 61, 62, 50],
            "PRIMARY_RACE": ["White", "Asian", "Asian", "Other"],
        }
    )
    people.to_csv(tmp_path / "demo.csv", index=False)
    tables = [chexpert(folder, demographics=tmp_path / "demo.csv")]
    pytest.importorskip("openpyxl")
    people.to_excel(tmp_path / "CHEXPERT DEMO.xlsx", index=False)
    tables.append(chexpert(folder, demographics=tmp_path / "CHEXPERT DEMO.xlsx"))
    for table in tables:
        race = table.frame["PRIMARY_RACE"]
        assert race.fillna("?").tolist() == ["White", "Asian", "Asian", "Asian", "?"]
        assert table.frame["AGE_AT_CXR"].fillna(-1).tolist() == [60, -1, -1, -1, -1]  # two ages differ


def test_demographics_that_cannot_be_used(folder, tmp_path):
    path = tmp_path / "demo.csv"
    pd.DataFrame({"PATIENT": [1, 2], "PRIMARY_RACE": ["a", "b"]}).to_csv(path, index=False)
    with pytest.raises(InputError, match="none of the 2 patients"):
        chexpert(folder, demographics=path)
    pd.DataFrame({"PATIENT": ["patient00001"], "race": ["a"]}).to_csv(path, index=False)
    with pytest.raises(InputError, match="no column 'PRIMARY_RACE'"):
        chexpert(folder, demographics=path)
    pd.DataFrame({"PATIENT": ["patient00001"], "PRIMARY_RACE": ["a"], "Sex": ["F"]}).to_csv(path, index=False)
    with pytest.raises(InputError, match="column 'Sex'"):
        chexpert(folder, demographics=path)
    with pytest.raises(InputError, match="no such table"):
        chexpert(folder, demographics=tmp_path / "none.xlsx")
    pytest.importorskip("openpyxl")
    (tmp_path / "broken.xlsx").write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot read the table"):
        chexpert(folder, demographics=tmp_path / "broken.xlsx")


def test_pacemakers_are_unknown_where_not_listed(folder, tmp_path):
    names = ["_".join(name.split("/")[1:]) for name in (NAMES[0], NAMES[3])]
    listing = pd.DataFrame({"img_name": names, "Cardiomegaly": [1, 0], "PM": [1, 0], "split": "train"})
    listing.to_csv(tmp_path / "pm.csv", index=False)
    table = chexpert(folder, pacemakers=tmp_path / "pm.csv")
    assert table.frame["pacemaker"].fillna(-1).tolist() == [1, -1, -1, 0, -1]
    assert chexpert(folder, views="frontal", pacemakers=tmp_path / "pm.csv").frame["pacemaker"].count() == 1


@pytest.mark.parametrize(
    ("option", "value"), [("target", "Cardiomegali"), ("uncertain", "drop"), ("views", "AP")]
)
def test_unknown_options(folder, option, value):
    with pytest.raises(InputError, match=f"{option} must be one of .* not {value!r}"):
        chexpert(folder, **{option: value})


def test_no_tables(tmp_path):
    with pytest.raises(LayoutError, match=r"neither train.csv nor valid.csv(.|\n)*stanfordmlgroup"):
        chexpert(tmp_path)


def broken(folder, change):
    frame = pd.read_csv(folder / "train.csv")
    change(frame).to_csv(folder / "train.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="Edema"), "train.csv lacks the column 'Edema'"),
        (lambda frame: frame.iloc[:0], "train.csv has no row"),
        (lambda frame: frame.assign(Cardiomegaly=2.0), "values other than 1, 0, -1"),
        (lambda frame: frame.assign(Path="a/b.jpg"), r"4 path\(s\) of train.csv"),
        (lambda frame: frame.assign(Path=frame["Path"].iloc[0]), r"3 image\(s\) are in train.csv more than"),
        (
            lambda frame: frame.assign(Path=frame["Path"].str.replace("study2", "study3")),
            r"2 image\(s\) are missing in CheXpert-v1.0-small: 'train/patient00002/study3/view1",
        ),
        (
            lambda frame: frame.assign(Path=frame["Path"].str.replace("patient00001", "patient64541")),
            r"1 patient\(s\) are in train.csv and in valid.csv: 'patient64541'",
        ),
    ],
)
def test_malformed_tables(folder, change, message):
    with pytest.raises(LayoutError, match=message) as caught:
        chexpert(broken(folder, change))
    assert "train/patient00001/study1/view1_frontal.jpg" in str(caught.value)


def test_nothing_left(folder):
    (folder / "valid.csv").unlink()
    with pytest.raises(LayoutError, match="no image is left"):
        chexpert(broken(folder, lambda frame: frame.assign(Edema=-1.0)), target="Edema", uncertain="ignore")


def test_ten_thousand_rows_are_indexed_and_none_is_opened(tmp_path):
    names = [f"train/patient{i // 4:05d}/study{i % 4 + 1}/view1_frontal.jpg" for i in range(10_000)]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()  # an empty file is no image: opening it would fail
    rows(names).to_csv(tmp_path / "train.csv", index=False)
    start = time.process_time()
    table = chexpert(tmp_path)
    assert time.process_time() - start < 5
    assert len(table) == 10_000
    assert table.frame["group"].nunique() == 2_500
    with pytest.raises(InputError, match="cannot read"):
        table.image(0)
