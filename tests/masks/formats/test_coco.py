import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.coco import import_coco
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter

COCO = pytest.importorskip("pycocotools.coco").COCO
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
shapes = array_shapes(min_dims=2, max_dims=2, max_side=14)


def opened(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(path)


def read_by_pycocotools(path):
    """Image name to the union of its annotations, read by the format's own reader."""
    coco = opened(path)
    found = {}
    for image in coco.imgs.values():
        mask = np.zeros((image["height"], image["width"]), dtype=bool)
        for annotation in coco.imgToAnns[image["id"]]:
            mask |= coco.annToMask(annotation).astype(bool)
        found[image["file_name"]] = mask
    return coco, found


@pytest.mark.parametrize("polygons", [False, True])
def test_pycocotools_reads_the_same_pixels(masks, tmp_path, polygons):
    path = masks.export(tmp_path / "ruler.json", polygons=polygons)
    coco, found = read_by_pycocotools(str(path))
    assert set(found) == {entry.image for entry in masks.entries}
    for entry in masks.entries:
        assert np.array_equal(found[entry.image], masks.mask(entry.sample_id))
    assert coco.cats[1]["name"] == "ruler"
    assert len(coco.anns) == 3  # the empty mask is an image without annotations
    for annotation in coco.anns.values():
        assert annotation["iscrowd"] == 0
        assert annotation["area"] == coco.annToMask(annotation).sum()
    assert json.loads(path.read_text())["info"]["shortcutscope"]["threshold"] == 0.4


@pytest.mark.parametrize("polygons", [False, True])
def test_there_and_back(masks, tmp_path, same, polygons):
    path = masks.export(tmp_path / "ruler.json", polygons=polygons)
    assert same(import_coco(path, tmp_path / "a"), masks)
    told = json.loads(path.read_text())
    told["info"] = {}
    told["images"] = [
        {key: image[key] for key in ("id", "file_name", "height", "width")} for image in told["images"]
    ]
    path.write_text(json.dumps(told))  # as a tool leaves it that keeps only what it knows
    assert same(import_coco(path, tmp_path / "b", like=masks), masks)
    bare = import_coco(path, tmp_path / "c")
    assert bare.sample_ids == [entry.image for entry in masks.entries]


def test_the_stored_frame(masks, tmp_path, same):
    stored = masks.in_frame("stored")
    path = stored.export(tmp_path / "ruler.json")
    _, found = read_by_pycocotools(str(path))
    assert np.array_equal(found["a.jpg"], np.rot90(masks.mask("s-a")))
    assert same(import_coco(path, tmp_path / "back", like=stored), masks)


@settings(max_examples=30, deadline=None)
@given(mask=shapes.flatmap(lambda shape: arrays(np.bool_, shape)), polygons=st.booleans())
def test_any_mask_comes_back_to_the_pixel(tmp_path_factory, mask, polygons):
    folder = tmp_path_factory.mktemp("coco")
    with MaskWriter(folder / "m", "tag") as writer:
        writer.append("1", mask)
    path = MaskSet.open(folder / "m").export(folder / "a.json", polygons=polygons)
    _, found = read_by_pycocotools(str(path))
    assert np.array_equal(found["1"], mask)
    assert np.array_equal(import_coco(path, folder / "back").mask("1"), mask)


def test_simplified_polygons_are_near_and_smaller(masks, tmp_path):
    exact = masks.export(tmp_path / "exact.json", polygons=True)
    rough = masks.export(tmp_path / "rough.json", polygons=True, tolerance=1.5)
    assert rough.stat().st_size < exact.stat().st_size
    _, found = read_by_pycocotools(str(rough))
    mask = masks.mask("s-c")
    assert (found["sub/c.png"] & mask).sum() / (found["sub/c.png"] | mask).sum() > 0.75


def test_what_a_person_draws(masks, tmp_path):
    path = masks.export(tmp_path / "ruler.json")
    told = json.loads(path.read_text())
    told["annotations"] = [
        {
            "id": 1,
            "image_id": 4,
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": [[2, 3, 9, 3, 9, 7, 2, 7]],
        },
        {
            "id": 2,
            "image_id": 4,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [12, 21], "counts": [0, 2, 250]},
        },
        {"id": 3, "image_id": 4, "category_id": 9, "iscrowd": 0, "segmentation": [[0, 0, 20, 0, 20, 11]]},
    ]
    told["categories"].append({"id": 9, "name": "lesion"})
    path.write_text(json.dumps(told))
    back = import_coco(path, tmp_path / "back", like=masks)
    expected = np.zeros((12, 21), dtype=bool)
    expected[3:7, 2:9] = True
    expected[:2, 0] = True
    assert np.array_equal(back.mask("s-d"), expected)
    assert back.entry("s-d").accepted is True
    assert back.entry("s-a").empty
    assert back.entry("s-a").edited


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda told: told.pop("images"), "lacks images"),
        (lambda told: told["categories"][0].update(name="tube"), "no category 'ruler'"),
        (lambda told: told["annotations"][0].update(image_id=77), "77"),
        (
            lambda told: told["annotations"][0].update(segmentation={"size": [3, 3], "counts": "04"}),
            r"a\.jpg",
        ),
        (lambda told: told["annotations"][0].update(segmentation=None, bbox=None), r"a\.jpg"),
        (lambda told: told["annotations"][0].pop("category_id"), "category_id"),
        (lambda told: told["images"][0].pop("height"), "height"),
        (lambda told: told["images"].append(told["images"][0]), "several images one id"),
    ],
)
def test_malformed_files_are_named(masks, tmp_path, change, text):
    path = masks.export(tmp_path / "ruler.json")
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(InputError, match=text) as caught:
        import_coco(path, tmp_path / "back", like=masks)
    assert "ruler.json" in str(caught.value)


def test_files_that_are_no_json(tmp_path):
    (tmp_path / "a.json").write_text("{")
    for name in ("a.json", "none.json"):
        with pytest.raises(InputError, match=name):
            import_coco(tmp_path / name, tmp_path / "back")


def test_a_missing_package_names_the_extra(masks, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    with pytest.raises(InputError, match=r'pip install "shortcutscope\[masks\]"'):
        masks.export(tmp_path / "ruler.json")
