from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope.data.manifests.columns import Roles, encode_labels, role_frame
from shortcutscope.data.manifests.manifest import read_manifest
from shortcutscope.errors import InputError


@pytest.mark.parametrize(
    ("values", "labels", "classes"),
    [
        ([0, 1, 2], [0, 1, 2], None),
        ([0.0, 1.0, 1.0], [0, 1, 1], None),
        ([True, False], [1, 0], None),
        (["1", "0", "10"], [1, 0, 10], None),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        (pd.Categorical(["b", "a"], categories=["b", "a"]), [1, 0], ("a", "b")),
        (np.array([1, 0], dtype=np.uint8), [1, 0], None),
        (pd.array([1, 0], dtype="Int64"), [1, 0], None),
        (pd.array([True, False], dtype="boolean"), [1, 0], None),
    ],
)
def test_labels_of_every_kind(values, labels, classes):
    found, names = encode_labels(pd.Series(values))
    assert found.dtype == np.int64
    assert found.tolist() == labels
    assert names == classes


def test_given_classes_set_the_order():
    assert encode_labels(pd.Series(["sick", "well"]), ["well", "sick"])[0].tolist() == [1, 0]
    assert encode_labels(pd.Series(["1", "2"]), ["2", "1"])[0].tolist() == [1, 0]
    assert encode_labels(pd.Series([1, 0]), ["well", "sick"])[1] == ("well", "sick")
    with pytest.raises(InputError, match=r"1 label.s. are none of the classes 'a', 'b': 'c'"):
        encode_labels(pd.Series(["a", "c"]), ["a", "b"])
    with pytest.raises(InputError, match="label 2 is outside the 2 classes"):
        encode_labels(pd.Series([0, 2]), ["a", "b"])


@pytest.mark.parametrize("values", [[0, 1.5], [0, -1], [0, np.inf], ["0", "1.5"]])
def test_numbers_that_are_no_classes(values):
    with pytest.raises(InputError, match=r"1 of 2 labels are not class numbers .* row 1"):
        encode_labels(pd.Series(values))


@pytest.mark.parametrize("values", [[0, None], [0, np.nan], ["a", None], pd.array([1, None], dtype="Int64")])
def test_missing_labels(values):
    with pytest.raises(InputError, match=r"1 of 2 labels are missing \(row 1, counted from 0\)"):
        encode_labels(pd.Series(values))


# Without blanks at the end, signs between several labels, and names that differ in case alone.
_NAMES = st.text(st.characters(exclude_characters="|,;/+&", categories=["Ll", "Nd", "P"]), max_size=5)


@given(st.lists(_NAMES.map(lambda text: f"c{text.casefold()}c"), min_size=1, max_size=20))
def test_text_labels_map_back(names):
    labels, classes = encode_labels(pd.Series(names, dtype=object))
    assert classes is not None
    assert [classes[label] for label in labels] == names
    assert list(classes) == sorted(set(names))


def test_missing_and_clashing_roles():
    frame = pd.DataFrame({"label": [0, 1], "p": ["a", None], "malignant": [0, 1], "s": ["x", "y"]})
    with pytest.raises(InputError, match=r"1 of 2 rows have no group \(row 1, counted from 0\)"):
        role_frame(frame, Roles(group="p"))
    with pytest.raises(InputError, match="two roles"):
        role_frame(frame, Roles(group="s", split="s"))
    with pytest.raises(InputError, match="'label' bear the name of a role"):
        role_frame(frame, Roles(label="malignant"))
    with pytest.raises(InputError, match="repeated: 's'"):
        role_frame(frame.rename(columns={"p": "s"}), Roles())


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, np.nan, 2.0], ["1", "", "2"]),
        ([np.nan] * 3, ["", "", ""]),
        (pd.Categorical(["a", None, "b"]), ["a", "", "b"]),
        (["a", None, "b"], ["a", "", "b"]),
        (pd.array([1, None, 2], dtype="Int64"), ["1", "", "2"]),
        ([0.5, np.nan, 1.0], ["0.5", "", "1.0"]),
    ],
)
def test_splits_may_be_unknown(values, text):
    frame, _, _ = role_frame(pd.DataFrame({"label": [0, 1, 0], "fold": values}), Roles(split="fold"))
    assert frame["split"].tolist() == text


def test_ids_default_to_sortable_row_numbers():
    frame, _, has_groups = role_frame(pd.DataFrame({"label": [0] * 11}), Roles())
    assert frame["sample_id"].tolist() == sorted(frame["sample_id"])
    assert frame["group"].equals(frame["sample_id"])
    assert not has_groups


def test_text_columns_of_a_manifest_stay_text(tmp_path):
    (tmp_path / "a.tsv").write_text("id\tx\n007\t1\n010\t2\n")
    frame = read_manifest(tmp_path / "a.tsv", ["id", "absent"])
    assert frame["id"].tolist() == ["007", "010"]
    assert frame["x"].tolist() == [1, 2]
