"""One image in several rows, or under several names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope import ImageTable
from shortcutscope.errors import InputError


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def readers(n=6, **columns):
    """Three rows an image, one a reader."""
    frame = pd.DataFrame(
        {
            "row": [f"{i}-{k}" for i in range(n) for k in range(3)],
            "image": np.repeat(range(n), 3),
            "reader": 0,
        }
    )
    frame["reader"] = [f"R{k}" for _ in range(n) for k in range(3)]
    frame["label"] = frame["image"] % 2
    frame["tag"] = frame["image"] // 2 % 2
    frame["image"] = [f"{i}.png" for i in frame["image"]]
    return frame.assign(**columns)


@pytest.mark.parametrize("ids", [{}, {"sample_id": "row"}])
def test_d1_rows_of_one_image_are_one_sample(folder, ids):
    once = readers().iloc[::3]
    table = ImageTable.from_frame(readers(), root=folder, **ids)
    assert len(table) == 6
    assert table.frame["label"].tolist() == once["label"].tolist()
    assert table.frame["tag"].tolist() == once["tag"].tolist()
    assert table.frame["reader"].isna().all()
    assert not table.has_groups
    if ids:
        assert table.frame["sample_id"].tolist() == once["row"].tolist()
    assert table.notes[0].startswith("12 of 18 rows name an image that an earlier row names, too: 6 images")
    assert "column 'reader' is unknown for 6 images whose rows differ in it" in table.notes
    assert "12 of 18 rows" in repr(table)


def test_d1_other_spellings_of_one_file(folder):
    names = ["0.png", "./0.png", str(folder / "0.png"), "../" + folder.name + "/0.png", "1.png"]
    table = ImageTable.from_frame(pd.DataFrame({"image": names, "label": [0, 0, 0, 0, 1]}), root=folder)
    assert len(table) == 2


@pytest.mark.parametrize(
    ("role", "values", "message"),
    [
        (
            "label",
            [0, 1, 0],
            r"6 image file\(s\) .* differ in their label: '0.png' \('0', '1'\).*decide beforehand",
        ),
        ("group", ["a", "b", "a"], "differ in their group: .*'a', 'b'.*an image is of one patient"),
        ("split", ["train", "test", "test"], "differ in their split: .*move all its rows to one split"),
        ("mask", ["0.png", "1.png", None], "differ in their mask: .*'0.png', '1.png'"),
    ],
)
def test_d1_rows_that_contradict_each_other_are_refused(folder, role, values, message):
    with pytest.raises(InputError, match=message):
        ImageTable.from_frame(readers(**{role: values * 6}), root=folder, sample_id="row")


def test_d1_the_mask_may_be_in_any_row(folder):
    table = ImageTable.from_frame(readers(mask=[None, "3.png", None] * 6), root=folder)
    assert table.mask(0) is not None


def test_d1_the_same_picture_under_two_names_is_one_patient(folder):
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "other.png").write_bytes((folder / "1.png").read_bytes())
    frame = pd.DataFrame(
        {
            "image": [*(f"{i}.png" for i in range(6)), "copy.png", "other.png"],
            "label": [0, 1, 0, 1, 0, 1, 1, 1],
            "group": list("aabbcdef"),
        }
    )
    table = ImageTable.from_frame(frame, root=folder)
    kept = table.verify(progress=False)
    groups = kept.frame["group"].tolist()
    assert groups[0] == groups[1] == groups[6] == groups[7]  # patient a, and both copies
    assert groups[2:6] == list("bbcd")
    assert "4 samples show 2 picture(s) under several names" in kept.notes[0]
    assert "1 of these pictures have different labels" in kept.notes[1]
    assert kept.fingerprint() == table.fingerprint()  # it follows from what the fingerprint covers
    assert kept.take([0, 3]).notes == kept.notes
    arrays = ImageTable.from_arrays(
        np.repeat(np.random.default_rng(0).random((3, 4, 4)), 2, axis=0), [0, 1] * 3
    )
    assert arrays.verify(progress=False).frame["group"].nunique() == 3


def test_d1_the_refusal_of_ids_gives_the_right_advice(folder):
    frame = readers().iloc[::3].assign(row=["a", "a", "b", "c", "d", "e"])
    with pytest.raises(InputError, match=r"on different images: 'a'\. An id belongs to one image"):
        ImageTable.from_frame(frame, root=folder, sample_id="row")
