import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.labelme import import_labelme

#: What LabelMe 5 writes for a file and for a shape.
FILE = {"version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"}
SHAPE = {"label", "points", "group_id", "description", "shape_type", "flags", "mask"}


def test_files_are_of_the_format_and_hold_the_same_pixels(masks, tmp_path):
    folder = masks.export(tmp_path / "out", format="labelme")
    names = {"s-a": "a.json", "s-b": "b.json", "s-c": "sub/c.json", "s-d": "d.json"}
    for entry in masks.entries:
        told = json.loads((folder / names[entry.sample_id]).read_text())
        assert set(told) == FILE | {"shortcutscope"}
        assert (told["imageHeight"], told["imageWidth"]) == entry.size
        assert told["imagePath"] == entry.image.rsplit("/", 1)[-1]
        canvas = np.zeros(entry.size, dtype=bool)
        for shape in told["shapes"]:
            assert set(shape) == SHAPE
            assert shape["shape_type"] == "mask"
            (x1, y1), (x2, y2) = np.array(shape["points"]).astype(int)
            inside = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
            canvas[y1 : y2 + 1, x1 : x2 + 1] = inside  # the last row and column are inside
        assert np.array_equal(canvas, masks.mask(entry.sample_id))
        assert told["shortcutscope"]["provenance"]["method"] == "fused"


def test_there_and_back(masks, tmp_path, same):
    folder = masks.export(tmp_path / "out", format="labelme")
    assert same(import_labelme(folder, tmp_path / "alone"), masks)
    for path in folder.rglob("*.json"):
        told = json.loads(path.read_text())
        told.pop("shortcutscope")
        path.write_text(json.dumps(told))
    assert same(import_labelme(folder, tmp_path / "back", like=masks), masks)


def test_what_a_person_draws(masks, tmp_path):
    folder = masks.take(["s-d"]).export(tmp_path / "out", format="labelme")
    told = json.loads((folder / "d.json").read_text())
    told["shapes"] = [
        {"label": "ruler", "shape_type": "polygon", "points": [[2, 3], [9, 3], [9, 7], [2, 7]]},
        {"label": "ruler", "shape_type": "rectangle", "points": [[18, 4], [15, 1]]},
        {"label": "ruler", "shape_type": "circle", "points": [[12.5, 8.5], [14.6, 8.5]]},
        {"label": "lesion", "shape_type": "line", "points": [[0, 0], [9, 9]]},
    ]
    (folder / "d.json").write_text(json.dumps(told))
    back = import_labelme(folder, tmp_path / "back", like=masks)
    expected = np.zeros((12, 21), dtype=bool)
    expected[3:7, 2:9] = True
    expected[1:4, 15:18] = True
    rows, columns = np.indices((12, 21))
    expected |= (rows - 8) ** 2 + (columns - 12) ** 2 < 2.1**2
    assert np.array_equal(back.mask("s-d"), expected)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ({"shape_type": "line", "points": [[0, 0], [1, 1]]}, "no area"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": "!"}, "cannot be read"),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": None}, "cannot be read"),
        ({"shape_type": "rectangle", "points": [[0, 0]]}, "cannot be read"),
        ({"points": "x"}, "cannot be read"),
    ],
)
def test_malformed_files_are_named(masks, tmp_path, shape, text):
    folder = masks.take(["s-d"]).export(tmp_path / "out", format="labelme")
    told = json.loads((folder / "d.json").read_text())
    told["shapes"] = [{"label": "ruler", **shape}]
    (folder / "d.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=rf"d\.json.*{text}"):
        import_labelme(folder, tmp_path / "back", like=masks)


def test_files_that_are_not_labelmes(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no folder with JSON"):
        import_labelme(tmp_path / "in", tmp_path / "back")
    for text in ("{", "[]", '{"a": 1}'):
        (tmp_path / "in" / "a.json").write_text(text)
        with pytest.raises(InputError, match=r"a\.json"):
            import_labelme(tmp_path / "in", tmp_path / "back")
