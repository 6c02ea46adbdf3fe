import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope.errors import InputError
from shortcutscope.retrieval.marks import Marks, marks_path

ids = st.text("abcé,\"' 01", min_size=1, max_size=5).filter(lambda s: s == s.strip())
answers = st.lists(st.dictionaries(ids, st.sampled_from([True, False, None]), max_size=5), max_size=4)


@given(answers)
def test_the_last_answer_counts_and_survives_the_file(tmp_path_factory, rounds):
    expected, marks = {}, Marks()
    for given_now in rounds:
        if not given_now:
            continue
        marks = marks.after(given_now)
        expected.update(given_now)
    expected = {name: float(value) for name, value in expected.items() if value is not None}
    path = tmp_path_factory.getbasetemp() / "marks.csv"
    marks.save(path)
    for found in (marks, Marks.open(path)):
        current = found.current
        assert dict(zip(current["sample_id"], current["value"], strict=True)) == expected
        assert len(found) == len(expected)


def test_ids_that_look_like_numbers_or_missing_values_stay_what_they_are(tmp_path):
    path = Marks.of(["007", "nan", "NA", "1e3"]).save(tmp_path / "m.csv")
    assert list(Marks.open(path).current["sample_id"]) == ["007", "nan", "NA", "1e3"]


def test_aligned(tmp_path):
    marks = Marks.of(["a", "b"], ["c"])
    assert np.array_equal(marks.aligned_to(["c", "x", "a", "b"]), [0, np.nan, 1, 1], equal_nan=True)
    with pytest.raises(InputError, match="2 marked samples are not among"):
        marks.aligned_to(["a"])
    assert len(Marks.open(tmp_path / "none.csv")) == 0


def test_contradictions_and_other_values():
    with pytest.raises(InputError, match="carriers and as others"):
        Marks.of(["a"], ["a"])
    with pytest.raises(InputError, match="a mark is 2"):
        Marks(pd.DataFrame({"sample_id": ["a"], "value": [2]}))
    with pytest.raises(InputError, match="missing: value"):
        Marks(pd.DataFrame({"sample_id": ["a"]}))


def test_a_file_name_for_any_finding(tmp_path):
    assert marks_path(tmp_path, "site=A / 3T") == tmp_path / "marks" / "site-A-3T.csv"


def boxed():
    return Marks.of(["a", "b"], ["c"], {"a": [(1, 2, 3, 4), (5, 6, 7.5, 8)], "b": [(9, 9)]})


def test_places_are_kept_beside_the_answers(tmp_path):
    marks = Marks.open(boxed().save(tmp_path / "marks.csv"))
    assert len(marks) == len(marks.answers) == 3
    assert marks.boxes(["b", "a", "c"]) == {1: [(1, 2, 3, 4), (5, 6, 7.5, 8)], 0: [(9, 9, 9, 9)]}


def test_places_go_with_the_mark_and_later_boxes_replace_earlier_ones():
    assert set(boxed().after({"a": None}).places["sample_id"]) == {"b"}
    assert set(boxed().after({"a": False}).places["sample_id"]) == {"b"}
    assert len(boxed().after({"a": True}).places) == 3
    later = boxed().followed_by(Marks.of(["a"], boxes={"a": [(0, 0, 1, 1)]}))
    assert later.boxes(["a", "b"]) == {0: [(0, 0, 1, 1)], 1: [(9, 9, 9, 9)]}
    assert len(boxed().followed_by(boxed()).places) == 3


def test_a_box_of_what_is_free_of_it_is_refused():
    with pytest.raises(InputError, match="'c' is marked as free of it and has a box"):
        Marks.of(["a"], ["c"], {"c": [(1, 2, 3, 4)]})
