import json

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.masks.drawn_marks import boxes_of_mask, drawing_format, read_drawn_marks

CVAT = """<annotations><version>1.1</version>
<image id="0" name="a.png" width="20" height="10"><box label="stamp" xtl="2" ytl="1" xbr="6" ybr="4"/>
<box label="stamp" xtl="10" ytl="5" xbr="14" ybr="9"/></image>
<image id="1" name="b.png" width="20" height="10"></image></annotations>"""


def test_cvat_boxes_are_places(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(CVAT)
    assert drawing_format(path) == "cvat"
    marks = read_drawn_marks(path, ["a", "b"], format="cvat", files={"a": "a.png", "b": "b.png"})
    assert marks.boxes(["a", "b"]) == {0: [(2, 1, 6, 4), (10, 5, 14, 9)]}
    # Nobody said whether the other image was looked at.
    assert np.isnan(marks.aligned_to(["a", "b"])[1])


def test_labelme_folders_are_read(tmp_path):
    shape = {"label": "stamp", "shape_type": "rectangle", "points": [[2, 1], [6, 4]]}
    content = {"shapes": [shape], "imagePath": "a.png", "imageHeight": 10, "imageWidth": 20}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert drawing_format(tmp_path) == "labelme"
    assert read_drawn_marks(tmp_path, ["a"], format="labelme").boxes(["a"]) == {0: [(2, 1, 6, 4)]}


def test_files_without_shapes_are_refused(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(CVAT.replace("a.png", "c.png"))
    with pytest.raises(InputError, match="no sample"):
        read_drawn_marks(path, ["a", "b"], format="cvat")
    with pytest.raises(InputError, match="marks are read from"):
        read_drawn_marks(path, ["a"], format="png")


def test_parts_of_a_mask_are_places_of_their_own():
    mask = np.zeros((8, 9), bool)
    mask[1:3, 2:5] = mask[5, 7] = True
    assert boxes_of_mask(mask) == [(2, 1, 5, 3), (7, 5, 8, 6)]


def test_other_files_hold_no_shapes(tmp_path):
    (tmp_path / "tags.xml").write_text('<annotations><image name="a"><tag label="x"/></image></annotations>')
    (tmp_path / "samples.json").write_text('{"samples": []}')
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    formats = [drawing_format(tmp_path / name) for name in ("tags.xml", "samples.json", "coco.json", "x.csv")]
    assert formats == [None, None, "coco", None]
