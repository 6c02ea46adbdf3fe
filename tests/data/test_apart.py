"""Samples, files and patients on two sides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope import ImageTable
from shortcutscope.audit.audited_data import TrainingData, audited_data
from shortcutscope.cli.inputs import open_table, open_training_columns
from shortcutscope.cli.options import DataOptions
from shortcutscope.data.apart import assert_tables_apart, shared_rows
from shortcutscope.errors import InputError


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "img").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "img" / f"{i}.png")
    return tmp_path


def rows(numbers, **columns):
    numbers = list(numbers)
    frame = pd.DataFrame({"image": [f"img/{i}.png" for i in numbers], "label": [i % 2 for i in numbers]})
    return frame.assign(patient=[f"p{i // 2}" for i in numbers], **columns)


def table_of(folder, numbers, group="patient", **options):
    frame = rows(numbers)
    return ImageTable.from_frame(frame, root=folder, group=group, **options)


def test_d2_patients_of_the_training_table_are_not_audited(folder):
    audited, train = table_of(folder, [1, 3, 4, 5]), table_of(folder, [0, 2, 10, 11])
    with pytest.raises(InputError, match=r"2 patients are given both .*'p0', 'p1'.*trained_on=True"):
        audited_data(audited, TrainingData(train))
    assert audited_data(audited, TrainingData(train, trained_on=True)).role == "training"
    kept = audited_data(audited, TrainingData(table_of(folder, [8, 9, 10, 11])))
    assert len(kept.reference) == 4


def test_d2_images_of_the_training_table_are_not_audited_whatever_their_ids(folder):
    audited = table_of(folder, [0, 1], group=None)
    same = ImageTable.from_frame(rows([1, 2]).assign(patient=["x", "y"]), root=folder, sample_id="patient")
    with pytest.raises(InputError, match=r"1 image files are given both .*img/1.png"):
        audited_data(audited, TrainingData(same))
    assert shared_rows(audited, same).tolist() == [False, True]


def test_d2_one_id_for_two_files_is_explained(folder):
    other = folder / "other"
    (other / "img").mkdir(parents=True)
    (other / "img" / "0.png").write_bytes((folder / "img" / "0.png").read_bytes())
    with pytest.raises(InputError, match=r"have one id but are different files, .*give both tables one root"):
        assert_tables_apart(table_of(folder, [0]), table_of(other, [0]), "x", "y")


@pytest.mark.parametrize("name", ["train", "fold7"])
def test_u16_audited_rows_are_never_counted_as_training_rows(folder, name):
    frame = rows(range(12)).assign(
        split=[name] * 6 + ["test"] * 6, image=[f"img/{i}.png" for i in range(12)], tag=[1, 0] * 6
    )
    frame.to_csv(folder / "all.csv", index=False)
    frame[frame["split"] == "test"].drop(columns="split").to_csv(folder / "test.csv", index=False)
    options = DataOptions(group="patient")
    audited = open_table(folder / "test.csv", options)
    train = open_training_columns(folder / "all.csv", options, audited, None if name == "train" else name)
    found = audited_data(audited, TrainingData(train))
    assert len(found.reference) == 6
    assert "of the training table only the 6 rows of its training split count" in found.assumptions
    # Without the split nobody knows which rows the model was trained on.
    frame.drop(columns="split").to_csv(folder / "all.csv", index=False)
    train = open_training_columns(folder / "all.csv", options, audited)
    with pytest.raises(InputError, match=r"6 samples are given both .*column split"):
        audited_data(audited, TrainingData(train))
    # Nor do other ids hide it.
    frame.drop(columns="split").assign(sample_id=range(12)).to_csv(folder / "all.csv", index=False)
    train = open_training_columns(folder / "all.csv", options, audited)
    with pytest.raises(InputError, match="6 image files are given both"):
        audited_data(audited, TrainingData(train))
    frame.assign(split="test").to_csv(folder / "all.csv", index=False)
    train = open_training_columns(folder / "all.csv", options, audited)
    with pytest.raises(InputError, match="no training rows: its splits are"):
        audited_data(audited, TrainingData(train))
