"""Ids, names of files, and the way from one to the other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope import ImageTable
from shortcutscope.data.manifests.image_names import default_id
from shortcutscope.data.sample_geometry import image_name
from shortcutscope.data.sample_names import SampleNames, as_ids, plain_name
from shortcutscope.errors import InputError
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.probes.concept import Concept
from shortcutscope.retrieval.imports import read_marks

NAMES = ["mueller_4711/a.png", "mueller_4711/b.png", "huber_12/a.png"]


@pytest.fixture
def table(tmp_path):
    for k, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((6, 6), 40 * k, np.uint8)).save(tmp_path / name)
    return ImageTable.from_frame(pd.DataFrame({"image": NAMES, "label": [0, 1, 0]}), root=tmp_path)


def test_r7_ids_say_nothing_and_stay_the_same(table, tmp_path):
    ids = table.frame["sample_id"].tolist()
    assert not any(word in " ".join(ids) for word in ("mueller", "4711", "huber", ".png"))
    assert list(table.files) == ids
    assert list(table.files.values()) == NAMES
    part = ImageTable.from_frame(pd.DataFrame({"image": NAMES[1:], "label": [1, 0]}), root=tmp_path)
    assert part.frame["sample_id"].tolist() == ids[1:]
    absolute = pd.DataFrame({"image": [str(tmp_path / name) for name in NAMES], "label": [0, 1, 0]})
    assert ImageTable.from_frame(absolute, root=tmp_path).frame["sample_id"].tolist() == ids
    own = pd.DataFrame({"image": NAMES, "label": [0, 1, 0], "sample_id": list("xyz")})
    assert ImageTable.from_frame(own, root=tmp_path).frame["sample_id"].tolist() == list("xyz")
    assert ImageTable.from_arrays(np.zeros((1, 2, 2)), [0]).files == {}


@pytest.mark.parametrize("name", [NAMES[1], f"./{NAMES[1]}", f"/data/{NAMES[1]}", f"C:\\x\\{NAMES[1]}"])
def test_r7_names_are_found_by_ids_that_were_made_of_them(table, name):
    names = SampleNames(table.frame["sample_id"].tolist())
    expected = table.frame["sample_id"].iloc[1]
    assert names(name.replace("/", "\\") if "C:" in name else name) == expected
    assert as_ids([name, expected, "other"], list(table.files)) == [expected, expected, "other"]
    with pytest.raises(InputError, match="or by the image's name as in the data"):
        names("b.png")  # a bare name needs the files
    assert SampleNames(list(table.files), files=table.files)("b.png") == expected
    with pytest.raises(InputError, match="could be any of"):
        SampleNames(list(table.files), files=table.files)("a.png")


def test_r7_marks_concepts_and_masks_go_by_names_too(table, tmp_path):
    ids = table.frame["sample_id"].tolist()
    (tmp_path / "marks.csv").write_text(f"image,mark\n{NAMES[0]},1\n{NAMES[2]},0\n")
    marks = read_marks(tmp_path / "marks.csv", ids)
    assert marks.current["sample_id"].tolist() == [ids[0], ids[2]]
    concept = Concept("tag", np.array([1.0, 0.0, 1.0]), "metadata", np.array(NAMES))
    assert concept.aligned_to(ids).values.tolist() == [1, 0, 1]
    with MaskWriter(tmp_path / "masks", "tag") as writer:
        for row, sample_id in enumerate(ids):
            writer.append(sample_id, np.eye(6) > 0, image=image_name(table, row, keep_paths=False))
    masks = MaskSet.open(tmp_path / "masks")
    assert masks.entry(NAMES[1]).sample_id == ids[1]
    assert masks.reviewed({NAMES[1]: True}).entry(ids[1]).accepted is True


def test_r7_images_go_by_ids_in_exports_and_come_back(table, tmp_path):
    assert plain_name("img-1", "p/x.nii.gz") == "img-1.nii.gz"
    assert plain_name("x.png", "p/x.png") == "x.png"
    assert plain_name("v1.2", "p/x.png") == "v1.2.png"
    assert plain_name("v1", None) == "v1"
    ids = table.frame["sample_id"].tolist()
    for keep in (False, True):
        with MaskWriter(tmp_path / f"masks{keep}", "tag") as writer:
            for row, sample_id in enumerate(ids):
                writer.append(sample_id, np.eye(6) > 0, image=image_name(table, row, keep_paths=keep))
        masks = MaskSet.open(tmp_path / f"masks{keep}")
        for kind in ("png", "labelme", "cvat"):
            out = masks.export(tmp_path / f"{kind}{keep}", kind)
            files = [out] if out.is_file() else [p for p in out.rglob("*") if p.is_file()]
            text = " ".join(map(str, files)) + " ".join(p.read_text(errors="ignore") for p in files)
            assert ("mueller_4711" in text.replace(str(tmp_path), "")) == keep
    plain = MaskSet.open(tmp_path / "masksFalse")
    named = masks.export(tmp_path / "again", "cvat")  # with the files' names, read by a set without
    from shortcutscope.masks.formats import FORMATS

    back = FORMATS["cvat"].read(named, tmp_path / "back", like=plain)
    assert sorted(back.sample_ids) == sorted(ids)
    assert default_id(NAMES[0]) == ids[0]
