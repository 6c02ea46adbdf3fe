import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.coco import import_coco
from shortcutscope.masks.formats.cvat import import_cvat
from shortcutscope.masks.formats.labelme import import_labelme
from shortcutscope.masks.formats.shapes import ellipse, from_coco_runs, polygon, rectangle, unpacked
from shortcutscope.masks.maskset import MaskSet

SIZE = (20, 30)
coder = pytest.importorskip("pycocotools.mask")


def coco(folder, *annotations, size=SIZE, images=None):
    images = images or [{"id": 1, "file_name": "a.png", "height": size[0], "width": size[1]}]
    annotations = [{"id": k, "image_id": 1, "category_id": 1, **told} for k, told in enumerate(annotations)]
    path = folder / "coco.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "tag"}]})
    )
    return path


def cvat(folder, shapes, size=SIZE, head=""):
    path = folder / "cvat.xml"
    image = f'<image id="0" name="a.png" width="{size[1]}" height="{size[0]}">{shapes}</image>'
    path.write_text(f"{head}<annotations>{image}</annotations>")
    return path


def labelme(folder, *shapes, size=SIZE):
    (folder / "labelme").mkdir(exist_ok=True)
    told = {"shapes": list(shapes), "imagePath": "a.png", "imageHeight": size[0], "imageWidth": size[1]}
    (folder / "labelme" / "a.json").write_text(json.dumps(told))
    return folder / "labelme"


def only_mask(masks):
    (entry,) = masks.entries
    return masks.mask(entry.sample_id)


@given(st.data())
def test_packed_run_lengths_are_those_of_pycocotools(data):
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    share = data.draw(st.floats(0, 1))
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(size) < share
    encoded = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(from_coco_runs(encoded, size), mask)
    plain = {"size": list(size), "counts": unpacked(encoded["counts"])}
    assert np.array_equal(from_coco_runs(plain, size), mask)
    assert coder.frPyObjects(plain, *size)["counts"] == encoded["counts"]


def test_d7_coco_boxes_polygons_and_run_lengths_of_an_image_unite(tmp_path):
    runs = np.zeros(SIZE, dtype=bool)
    runs[15:18, 20:25] = True
    packed = coder.encode(np.asfortranarray(runs.astype(np.uint8)))
    path = coco(
        tmp_path,
        {"bbox": [1, 2, 5, 4]},
        {"bbox": [10, 2, 3, 3], "segmentation": []},
        {"segmentation": [[0, 10, 4, 10, 4, 14, 0, 14], [6, 10, 9, 10, 9, 12, 6, 12]]},
        {"segmentation": {"size": list(SIZE), "counts": packed["counts"].decode()}},
        {"segmentation": {"size": list(SIZE), "counts": [599, 1]}, "iscrowd": 1},
    )
    expected = runs.copy()
    expected[2:6, 1:6] = expected[2:5, 10:13] = expected[10:14, 0:4] = expected[10:12, 6:9] = True
    expected[19, 29] = True
    assert np.array_equal(only_mask(import_coco(path, tmp_path / "out")), expected)


@pytest.mark.parametrize(
    "shape",
    [
        {"segmentation": [[0, 0, float("nan"), 0, 4, 4]]},
        {"segmentation": [[0, 0, float("inf"), 0, 4, 4]]},
        {"segmentation": [[0, 0, 1e18, 0, 4, 4]]},
        {"segmentation": [[0, 0, 4, 0, 4]]},
        {"segmentation": [[0, 0, 4, 4]]},
        {"segmentation": [[0, 0, 4, 0, 4, "a"]]},
        {"segmentation": [[]]},
        {"segmentation": "abc"},
        {"segmentation": 7},
        {"segmentation": [None]},
        {"segmentation": {"size": [20, 30], "counts": [599]}},
        {"segmentation": {"size": [20, 30], "counts": [-1, 601]}},
        {"segmentation": {"size": [20, 30], "counts": [10**30]}},
        {"segmentation": {"size": [20, 30], "counts": [1.5, 598.5]}},
        {"segmentation": {"size": [20, 30], "counts": "}}}}}}}}"}},
        {"segmentation": {"size": [20, 30], "counts": "ooooooooooooooo0"}},
        {"segmentation": {"size": [20, 30], "counts": "é"}},
        {"segmentation": {"size": [20, 30], "counts": None}},
        {"segmentation": {"size": [40, 30], "counts": [1200]}},
        {"segmentation": {"size": ["20", None], "counts": [600]}},
        {"segmentation": {"counts": [600]}},
        {"bbox": [0, 0, float("nan"), 3]},
        {"bbox": [0, 0, 1e300, 3]},
        {"bbox": [5, 5, 0.1, 0.1]},
        {"bbox": [1, 2]},
        {"keypoints": [1, 2, 2], "bbox": [0, 0, 9, 9]},
        {},
    ],
)
def test_r10_shapes_that_kill_or_vanish_are_refused(tmp_path, shape):
    with pytest.raises(InputError, match=r"the masks of 'a\.png' in .*coco\.json cannot be read: "):
        import_coco(coco(tmp_path, shape), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_r5_images_of_billions_of_pixels_are_refused(tmp_path):
    size = (60_000, 60_000)
    square = {"label": "tag", "points": [[1, 1], [9, 1], [9, 9]]}
    polygon_text = '<polygon label="tag" points="1,1;9,1;9,9"/>'
    for read, path in (
        (import_coco, coco(tmp_path, {"bbox": [1, 1, 5, 5]}, size=size)),
        (import_cvat, cvat(tmp_path, polygon_text, size)),
        (import_labelme, labelme(tmp_path, square, size=size)),
    ):
        with pytest.raises(InputError, match=r"60000 x 60000.*the limit is 268,435,456.*max_pixels"):
            read(path, tmp_path / "out")
    small = coco(tmp_path, {"bbox": [1, 1, 5, 5]})
    with pytest.raises(InputError, match="the limit is 599"):
        import_coco(small, tmp_path / "out", max_pixels=599)
    assert only_mask(import_coco(small, tmp_path / "out", max_pixels=600)).sum() == 25


def test_d7_cvat_boxes_turned_and_ellipses_come_back(tmp_path):
    box = '<box label="tag" xtl="10" ytl="8" xbr="20" ybr="12" rotation="90.00"/>'
    turned = only_mask(import_cvat(cvat(tmp_path, box), tmp_path / "a"))
    expected = np.zeros(SIZE, dtype=bool)
    expected[5:15, 13:17] = True
    assert np.array_equal(turned, expected)
    # Clockwise, as CVAT draws it: the right end of a lying bar goes down.
    bar = '<box label="tag" xtl="10" ytl="9" xbr="20" ybr="11" rotation="30"/>'
    rows, columns = np.nonzero(only_mask(import_cvat(cvat(tmp_path, bar), tmp_path / "b")))
    assert np.corrcoef(rows, columns)[0, 1] > 0.8
    oval = '<ellipse label="tag" cx="15" cy="10" rx="9" ry="4"/>'
    y, x = np.indices(SIZE) + 0.5
    inside = ((x - 15) / 9) ** 2 + ((y - 10) / 4) ** 2 < 1
    assert (only_mask(import_cvat(cvat(tmp_path, oval), tmp_path / "c")) ^ inside).sum() <= 4
    quarter = '<ellipse label="tag" cx="15" cy="10" rx="9" ry="4" rotation="90"/>'
    upright = ((x - 15) / 4) ** 2 + ((y - 10) / 9) ** 2 < 1
    assert (only_mask(import_cvat(cvat(tmp_path, quarter), tmp_path / "d")) ^ upright).sum() <= 4
    both = only_mask(import_cvat(cvat(tmp_path, box + oval), tmp_path / "e"))
    assert np.array_equal(both, turned | ellipse((15, 10), (9, 4), SIZE))


@pytest.mark.parametrize("tag", ["polyline", "points", "cuboid", "skeleton", "cube3d"])
def test_d7_cvat_shapes_without_area_are_named(tmp_path, tag):
    shape = f'<{tag} label="tag" points="1,1;9,9;3,4"/>'
    with pytest.raises(InputError, match=rf"'a\.png'.*a {tag} of the label has no area; draw a polygon"):
        import_cvat(cvat(tmp_path, shape), tmp_path / "out")
    other = '<polygon label="tag" points="1,1;9,1;9,9"/><polyline label="other" points="1,1;9,9"/>'
    assert only_mask(import_cvat(cvat(tmp_path, other), tmp_path / "out", name="tag")).any()


def test_d7_other_spellings_of_a_label_are_named(tmp_path):
    shapes = '<polygon label="Tag " points="1,1;9,1;9,9"/>'
    with pytest.raises(InputError, match="'Tag ' beside 'tag'; give both one spelling"):
        import_cvat(cvat(tmp_path, shapes), tmp_path / "out", name="tag")
    square = {"label": "TAG", "points": [[1, 1], [9, 1], [9, 9]]}
    with pytest.raises(InputError, match="'TAG' beside 'tag'"):
        import_labelme(labelme(tmp_path, square), tmp_path / "out", name="tag")
    with pytest.raises(InputError, match="no shapes of the label 'ruler'; it has TAG"):
        import_labelme(labelme(tmp_path, square), tmp_path / "out", name="ruler")


def test_d7_labelme_shapes_come_back_or_are_named(tmp_path):
    shapes = [
        {"label": "tag", "shape_type": "rectangle", "points": [[1, 1], [5, 4]]},
        {"label": "tag", "shape_type": "rectangle", "points": [[10, 1], [14, 1], [14, 4], [10, 4]]},
        {"label": "tag", "shape_type": "circle", "points": [[20, 12], [24, 12]]},
    ]
    expected = rectangle((1, 1), (5, 4), SIZE) | rectangle((10, 1), (14, 4), SIZE)
    expected |= ellipse((20, 12), (4, 4), SIZE)
    assert np.array_equal(only_mask(import_labelme(labelme(tmp_path, *shapes), tmp_path / "a")), expected)
    for kind in ("line", "linestrip", "point", "points"):
        line = {"label": "tag", "shape_type": kind, "points": [[1, 1], [9, 9]]}
        with pytest.raises(
            InputError, match=rf"a\.json.*a shape of type '{kind}' has no area; draw a polygon"
        ):
            import_labelme(labelme(tmp_path, *shapes, line), tmp_path / "b")
    for points in ([[1, 1], [float("nan"), 2], [3, 3]], [[1, 1]], [], None, [["a", 1]] * 3):
        broken = {"label": "tag", "points": points}
        with pytest.raises(InputError, match=r"the shapes in .*a\.json cannot be read"):
            import_labelme(labelme(tmp_path, broken), tmp_path / "b")


@pytest.mark.parametrize(
    "shape",
    [
        '<polygon label="tag" points="1,1;nan,1;9,9"/>',
        '<polygon label="tag" points="1,1;1e300,1;9,9"/>',
        '<polygon label="tag" points="1,1;9,9"/>',
        '<box label="tag" xtl="1" ytl="1" xbr="inf" ybr="9"/>',
        '<box label="tag" xtl="1" ytl="1" xbr="9" ybr="9" rotation="nan"/>',
        '<ellipse label="tag" cx="1" cy="1" rx="1e9" ry="9"/>',
        '<mask label="tag" rle="1,2" left="0" top="0" width="2" height="2"/>',
        '<mask label="tag" rle="-1,5" left="0" top="0" width="2" height="2"/>',
        '<mask label="tag" rle="0,4" left="0" top="0" width="2000" height="2"/>',
        '<mask label="tag" rle="0,4" left="0" top="0" width="-2" height="-2"/>',
        '<mask label="tag" rle="" left="0" top="0" width="2" height="2"/>',
        '<box label="tag"/>',
    ],
)
def test_r10_cvat_numbers_that_cannot_be_are_refused(tmp_path, shape):
    with pytest.raises(InputError, match=r"the shapes of 'a\.png'"):
        import_cvat(cvat(tmp_path, shape), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_r10_entities_and_tracks_are_refused(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]>'
    with pytest.raises(InputError, match="declares a document type"):
        import_cvat(cvat(tmp_path, "", head=bomb), tmp_path / "out")
    path = tmp_path / "track.xml"
    path.write_text('<annotations><track id="0" label="tag"><box frame="0"/></track></annotations>')
    with pytest.raises(InputError, match="CVAT for video"):
        import_cvat(path, tmp_path / "out")


def test_an_import_that_was_refused_can_be_made_again(tmp_path):
    images = [{"id": k, "file_name": f"{k}.png", "height": 20, "width": 30} for k in (1, 2)]
    good = {"segmentation": [[0, 0, 4, 0, 4, 4]]}
    with pytest.raises(InputError, match=r"2\.png"):
        import_coco(
            coco(tmp_path, good, {**good, "image_id": 2, "segmentation": [[1]]}, images=images),
            tmp_path / "out",
        )
    made = import_coco(coco(tmp_path, good, {**good, "image_id": 2}, images=images), tmp_path / "out")
    assert len(MaskSet.open(made.folder)) == 2
    with pytest.raises(InputError, match="not empty: give a new folder"):
        import_coco(coco(tmp_path, good), tmp_path / "out")


def test_shapes_may_go_beyond_the_edge():
    assert polygon([-5, -5, 3, -5, 3, 3, -5, 3], SIZE).sum() == 9
    with pytest.raises(ValueError, match="coordinate 9999"):
        polygon([0, 0, 9999, 0, 3, 3], SIZE)
