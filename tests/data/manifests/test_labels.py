"""Several labels a sample: how columns and cells are read, and what of them is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shortcutscope.data.manifests.labels import Labels, with_labels
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError


def table_of(frame, label, **options):
    return ImageTable.from_arrays(np.zeros((len(frame), 8, 8)), frame, label=label, **options)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([0, 1, 1], [0, 1, 1]),
        ([True, False, True], [1, 0, 1]),
        (["1.0", "0", "-1.0"], [1, 0, np.nan]),
        (["yes", "No", " YES "], [1, 0, 1]),
        (["pos", "neg", "uncertain"], [1, 0, np.nan]),
        (["edema", "no edema", ""], [1, 0, np.nan]),
        ([1, -1, None], [1, np.nan, np.nan]),
    ],
)
def test_a_column_says_yes_no_or_neither(cells, expected):
    table = table_of(pd.DataFrame({"edema": cells, "mass": [0, 1, 0]}), ["edema", "mass"])
    np.testing.assert_array_equal(table.label_values[:, 0], expected)
    assert table.labels == ("edema", "mass")
    assert table.metadata == []


@pytest.mark.parametrize(
    ("uncertain", "blank", "expected"),
    [
        ("ignore", "ignore", [1, 0, np.nan, np.nan]),
        ("positive", "ignore", [1, 0, 1, np.nan]),
        ("negative", "negative", [1, 0, 0, 0]),
    ],
)
def test_what_uncertain_and_blank_mean_is_chosen_once_and_said(uncertain, blank, expected):
    frame = pd.DataFrame({"edema": [1, 0, -1, None], "mass": [0, 1, 0, 1]})
    table = table_of(frame, Labels(["edema", "mass"], uncertain=uncertain, blank=blank))
    np.testing.assert_array_equal(table.label_values[:, 0], expected)
    (note,) = table.label_notes
    assert "1 uncertain" in note
    assert "1 blank" in note
    assert ("positive" in note) == (uncertain == "positive")


@pytest.mark.parametrize("cells", [[0, 1, 2], [0.5, 1, 0], ["1", "AP", "0"], [0, 1, -2]])
def test_other_values_are_refused_with_the_column(cells):
    with pytest.raises(InputError, match=r"label column 'edema' holds"):
        table_of(pd.DataFrame({"edema": cells, "mass": [0, 1, 0]}), ["edema", "mass"])


def test_cells_list_findings():
    cells = ["No Finding", "Mass|Pleural_Thickening", "pleural thickening", "Hernia | Mass", None]
    table = table_of(pd.DataFrame({"Finding Labels": cells}), Labels("Finding Labels"))
    assert table.labels == ("Hernia", "Mass", "Pleural_Thickening")
    nan = np.nan
    np.testing.assert_array_equal(
        table.label_values, [[0, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 0], [nan, nan, nan]]
    )
    some = table_of(pd.DataFrame({"x": cells}), Labels("x", ["Pleural Thickening", "Mass"], blank="negative"))
    np.testing.assert_array_equal(some.label_values[-1], [0, 0])
    assert some.labels == ("Pleural Thickening", "Mass")
    normal = table_of(pd.DataFrame({"x": cells}), Labels("x", ["No Finding", "Mass"]))
    assert normal.label_values[:2].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("cells", "names", "match"),
    [
        (["No Finding|Mass", "Mass"], None, "nothing, and something"),
        (["Mass", "Hernia"], ["Fracture"], "no cell of 'x' names"),
        (["No Finding", "none"], None, "name 0 findings"),
        ([f"f{k}" for k in range(200)], None, "name 200 findings"),
    ],
)
def test_cells_that_contradict_themselves_or_name_nothing_are_refused(cells, names, match):
    with pytest.raises(InputError, match=match):
        table_of(pd.DataFrame({"x": cells}), Labels("x", names))


@given(
    st.lists(st.lists(st.sampled_from("abc"), unique=True), min_size=2, max_size=9).filter(lambda x: any(x))
)
def test_cells_are_as_good_as_columns(samples):
    names = sorted({finding for sample in samples for finding in sample})
    cells = pd.DataFrame({"x": ["|".join(sample) or "none" for sample in samples]})
    columns = pd.DataFrame({name: [int(name in sample) for sample in samples] for name in names})
    of_cells, found, _ = with_labels(cells, Labels("x"))
    assert list(found) == names
    np.testing.assert_array_equal(of_cells[names], columns)


def test_a_label_may_be_called_as_a_role_is():
    frame = pd.DataFrame({"label": [0, 1, 1], "wires": [1, 0, None], "split": ["a", "b", "b"]})
    table = table_of(frame, ["label", "wires"])
    assert table.frame["split"].tolist() == ["a", "b", "b"]
    assert table.for_label("label").frame["label"].tolist() == [0, 1, 1]
    wires = table.for_label("Wires")
    assert wires.frame["label"].tolist() == [1, 0]
    assert wires.frame["label: label"].tolist() == [0, 1]
    assert wires.classes == ("no wires", "wires")
    with pytest.raises(InputError, match="rename or drop"):
        table_of(frame, ["wires", "split"])


def test_the_table_tells_labels_apart_and_keeps_them(tmp_path):
    frame = pd.DataFrame({"a": [0, 1, 1], "b": [1, None, 0], "c": ["x", "y", "z"]})
    table = table_of(frame, ["a", "b"])
    assert table.metadata == ["c"]
    assert table.take([2, 0]).label_values.tolist() == [[1, 0], [0, 1]]
    assert table.fingerprint() != table_of(frame.assign(a=[1, 1, 1]), ["a", "b"]).fingerprint()
    assert "b 1 of 2" in repr(table)
    with pytest.raises(InputError, match="other values"):
        table.with_columns(a=[0, 1, 3])
    with pytest.raises(InputError, match="no label 'd'; there are 'a', 'b'"):
        table.for_label("d")
    with pytest.raises(InputError, match="known of none"):
        table_of(frame.assign(a=np.nan), ["a", "b"]).for_label("a")


def test_rows_of_one_image_must_agree_in_every_label(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "1.png")
    Image.fromarray(np.ones((8, 8), np.uint8)).save(tmp_path / "2.png")
    frame = pd.DataFrame({"image": ["1.png", "1.png", "2.png"], "a": [1, 1, 0], "b": [1, 0, 0]})
    with pytest.raises(InputError, match="differ in their label"):
        ImageTable.from_frame(frame, label=["a", "b"], root=tmp_path)
    frame["b"] = [1, 1, 0]
    frame.to_csv(tmp_path / "data.csv", index=False)
    table = ImageTable.from_csv(tmp_path / "data.csv", label=["a", "b"])
    assert table.label_values.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Labels(["a"], uncertain="maybe"), "uncertain='maybe'"),
        (lambda: Labels(["a", "A "]), "whose names are the same"),
        (lambda: Labels(["a", "b"], names=["c"]), "leave it out"),
        (lambda: Labels("x", names="c"), r"names=\['c'\]"),
        (lambda: Labels([]), "none is given"),
        (lambda: table_of(pd.DataFrame({"a": [0, 1]}), ["a", "b"]), "no column 'b'"),
        (lambda: ImageTable.from_arrays(np.zeros((2, 8, 8)), labels=[[0, 1], [1, 1]]), "several a sample"),
    ],
)
def test_impossible_labels_are_refused(make, match):
    with pytest.raises(InputError, match=match):
        make()
