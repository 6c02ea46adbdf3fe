import numpy as np
import pandas as pd
import pytest

from shortcutscope.errors import InputError
from shortcutscope.retrieval.marks import Marks
from shortcutscope.retrieval.places import boxes_of, is_click, read_places, refuse_outside

BOX = {"x0": 1, "y0": 2, "x1": 5.5, "y1": 9}


def frame(*rows):
    return pd.DataFrame([{"sample_id": "a", **BOX, **row} for row in rows])


def test_rows_without_numbers_have_no_place():
    places = read_places(frame({}, {"sample_id": "b", "x0": "", "y0": "", "x1": "", "y1": ""}))
    assert places.to_dict("records") == [{"sample_id": "a", **BOX}]
    assert boxes_of(places, ["b", "a"]) == {1: [(1, 2, 5.5, 9)]}


def test_a_click_is_a_box_of_no_size():
    places = read_places(pd.DataFrame({"sample_id": ["a"], "x": ["3"], "y": ["4"]}))
    assert places.iloc[0, 1:].tolist() == [3, 4, 3, 4]
    assert is_click((3, 4, 3, 4))
    assert not is_click((3, 4, 3, 5))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"x1": 1}, "right of x0"),
        ({"y1": 1}, "below y0"),
        ({"x0": "left"}, "'left'"),
        ({"x0": np.inf}, "number of pixels"),
        ({"x0": ""}, "empty edge"),
    ],
)
def test_what_is_no_box_is_refused(row, words):
    with pytest.raises(InputError, match=words):
        read_places(frame(row))


def test_columns_that_are_missing_are_named():
    with pytest.raises(InputError, match="missing: x1, y1"):
        Marks(pd.DataFrame({"sample_id": ["a"], "value": [1], "x0": [1], "y0": [2]}))


@pytest.mark.parametrize("box", [(-2, 0, 3, 3), (0, 0, 21.0, 3), (0, 0, 3, 11)])
def test_boxes_outside_the_image_are_refused(box):
    places = Marks.of(["a"], boxes={"a": [box]}).places
    with pytest.raises(InputError, match="20 x 10 pixels"):
        refuse_outside(places, {"a": (10, 20)})
    refuse_outside(Marks.of(["a"], boxes={"a": [(0, 0, 20, 10)]}).places, {"a": (10, 20)})
