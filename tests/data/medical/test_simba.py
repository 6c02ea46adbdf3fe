import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.data.medical.simba import simba
from shortcutscope.errors import InputError

#: Number, subject effect, disease effect, bias effect, as the generator writes them into the names.
VOLUMES = [("00000", -0.5, 1.25, 2.031), ("00001", 0.007, -1.0, None), ("00002", 1e-05, 0.3, -0.1)]


@pytest.fixture
def tree(tmp_path):
    """Three volumes for each split, empty files; the tables have the paths of another machine."""
    for split in ("train", "val", "test"):
        (tmp_path / split).mkdir()
        rows = []
        for k, (number, subject, disease, bias) in enumerate(VOLUMES):
            name = f"{number}_{subject}_S_{disease}_D" + (f"_{bias}_B" if bias else "") + ".nii.gz"
            (tmp_path / split / name).touch()
            rows.append(
                {
                    "isv_dst": subject,
                    "effect_dst": disease,
                    "isv_bin": k,
                    "effect_bin": 9 - k,
                    "both_bins": f"{k}_{9 - k}",
                    "bias_label": int(bias is not None),
                    "class_label": int(disease > 0),
                    "strat_col": f"1_1_{k}",
                    "filepath": f"/home/other/exp/{split}/{name}",
                    "filename": name,
                }
            )
        pd.DataFrame(rows, index=[7, 3, 5]).to_csv(tmp_path / f"{split}.csv")
    return tmp_path


def test_bias_disease_and_subject(tree):
    table = open_dataset("simba", tree)
    frame = table.frame
    assert frame["split"].tolist() == ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    assert frame["label"].tolist() == [1, 0, 1] * 3
    assert frame["bias_label"].tolist() == [1, 0, 1] * 3
    assert frame["subject"].tolist() == [7, 3, 5] * 3
    assert frame["bias_dst"].iloc[[0, 2]].tolist() == [2.031, -0.1]
    assert np.isnan(frame["bias_dst"].iloc[1])
    kept = {"isv_dst", "effect_dst", "isv_bin", "effect_bin", "both_bins", "strat_col"}
    assert set(table.metadata) == kept | {"subject", "bias_label", "bias_dst"}
    assert list(table.files.values())[4] == "val/00001_0.007_S_-1.0_D.nii.gz"
    assert not table.has_groups


def test_splits_label_and_tables_of_paths_alone(tree):
    table = simba(tree, splits=["test", "train"], label="bias_label")
    assert table.frame["split"].tolist() == ["test"] * 3 + ["train"] * 3
    assert table.frame["label"].tolist() == [1, 0, 1] * 2
    path = tree / "train.csv"
    frame = pd.read_csv(path, index_col=0).drop(columns=["filename", "bias_label"])
    frame["filepath"] = frame["filepath"].str.replace("/home/other/", "C:\\data\\").str.replace("/", "\\")
    frame.to_csv(path)
    again = simba(tree, splits=["train"])
    assert next(iter(again.files.values())) == "train/00000_-0.5_S_1.25_D_2.031_B.nii.gz"
    assert again.frame["bias_label"].tolist() == [1, 0, 1]
    for splits in ([], ["training"], "train"):
        with pytest.raises(InputError, match="splits must be some of"):
            simba(tree, splits=splits)


def test_volumes_are_read(tree):
    nibabel = pytest.importorskip("nibabel")
    for path in tree.rglob("*.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), 0.5, dtype=np.float32), np.eye(4)), path)
    assert simba(tree).verify(progress=False).shape == (1, 3, 4, 5)


def test_other_layouts_are_refused(tree):
    next((tree / "val").glob("00001*")).unlink()
    with pytest.raises(LayoutError, match=r"1 of 3 volumes of val\.csv are missing: '00001_0\.007"):
        simba(tree)
    assert len(simba(tree, splits=["train"])) == 3
    frame = pd.read_csv(tree / "train.csv", index_col=0)
    frame.drop(columns=["filename", "filepath"]).to_csv(tree / "train.csv")
    with pytest.raises(LayoutError, match="does not name a file in every row"):
        simba(tree)
    frame.drop(columns="class_label").to_csv(tree / "train.csv")
    with pytest.raises(LayoutError, match="lacks the column 'class_label'"):
        simba(tree)
    (tree / "train.csv").unlink()
    with pytest.raises(LayoutError, match=r"(?s)no file 'train\.csv'.*estanley16/SimBA"):
        simba(tree)


def test_ten_thousand_volumes_are_not_opened(tree):
    names = [f"{k:05d}_0.1_S_0.2_D.nii.gz" for k in range(10_000)]
    for name in names:
        (tree / "train" / name).touch()
    frame = pd.DataFrame({"class_label": 0, "bias_label": 0, "filepath": names})
    frame.to_csv(tree / "train.csv")
    assert len(simba(tree, splits=["train"])) == 10_000
