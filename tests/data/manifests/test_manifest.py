"""Tables as they come: separators, encodings, blanks, decimal commas, labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope import ImageTable
from shortcutscope.data.manifests.manifest import read_manifest
from shortcutscope.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "img").mkdir()
    for i in range(8):
        Image.fromarray(np.full((4, 4), 9 * i, dtype=np.uint8)).save(tmp_path / "img" / f"{i}.png")
    return tmp_path


def table_of(folder, text, encoding="utf-8", **options):
    (folder / "m.csv").write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return ImageTable.from_csv(folder / "m.csv", **options)


def lines(header, row, n=8):
    return header + "\n" + "".join(row(i) + "\n" for i in range(n))


@pytest.mark.parametrize(("sign", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_d9_other_separators_are_recognised_and_said(folder, sign, name):
    table = table_of(
        folder, lines(f"image{sign}label{sign}age", lambda i: f"img/{i}.png{sign}{i % 2}{sign}4{i},5")
    )
    assert table.frame["label"].tolist() == [0, 1] * 4
    assert table.frame["age"].tolist() == [40.5 + i for i in range(8)]
    assert table.notes == (f"the columns of m.csv are parted by {name}", "column 'age' has decimal commas")


def test_d9_a_table_that_says_its_separator(folder):
    table = table_of(folder, "sep=;\r\n" + lines("image;label;note", lambda i: f"img/{i}.png;{i % 2};a, b"))
    assert table.frame["note"].tolist() == ["a, b"] * 8
    assert table.notes == ("the columns of m.csv are parted by semicolons",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_d9_encodings_that_say_what_they_are(folder, encoding):
    table = table_of(folder, lines("image,label,región", lambda i: f"img/{i}.png,{i % 2},tórax"), encoding)
    assert table.frame["región"].tolist() == ["tórax"] * 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lines("image,label,región", lambda i: f"img/{i}.png,{i % 2},é").encode("latin-1"),
            "not in UTF-8 .*iconv",
        ),
        (lines("image,label", lambda i: f"img/{i}.png,{i % 2}").encode("utf-16-le"), "UTF-16 without"),
        (b"PK\x03\x04rest", "Excel file"),
        (b"\xd0\xcf\x11\xe0rest", "Excel file"),
        (b"PAR1rest", "Parquet"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"image,label\n", "table is empty"),
        (b"image,label,label\nimg/0.png,0,1\n", "repeated in .*'label'"),
        (b"image,label\nimg/0.png,0,left over\nimg/1.png,1\n", r"row 0 \(counted from 0\) .* has 3 fields"),
        (b"image,label\nimg\\0.dcm,0\n", "do not exist"),
        (b"image,label\nC:\\data\\0.png,0\n", "another place or machine"),
        (b"image,label\nimg/0,0\n", "lack their ending: 'img/0.png' is there"),
        (b"image,label\nimg/0.png,0\nimg/1.png,\n", r"1 of 2 labels are missing \(row 1, counted from 0\)"),
        (b"image,label\nimg/0.png,0\n,1\n", r"1 of 2 rows have no image file \(row 1"),
        (b"image,label\nimg/0.png,-1\nimg/1.png,1\n", "leave out the rows of -1"),
        (b"image,label\nimg/0.png,A|B\nimg/1.png,B\n", "several labels in one cell, such as 'A|B'"),
        (b'image,label\nimg/0.png,"A, B"\nimg/1.png,B\nimg/2.png,A\n', "several labels in one cell"),
        (b"image,label\nimg/0.png,['a']\nimg/1.png,b\n", "several labels in one cell"),
        (
            b"image,label\nimg/0.png,Benign\nimg/1.png,benign\n",
            "differ in case or blanks alone: 'Benign' and 'benign'",
        ),
    ],
)
def test_d9_what_cannot_be_right_is_refused_with_the_mend(folder, content, message):
    with pytest.raises(InputError, match=message):
        table_of(folder, content)


def test_d9_lists_as_labels(folder):
    frame = pd.DataFrame({"image": ["img/0.png", "img/1.png"], "label": [["a"], ["a", "b"]]})
    with pytest.raises(InputError, match="several labels in one cell"):
        ImageTable.from_frame(frame, root=folder)


def test_d9_blanks_are_taken_off(folder):
    table = table_of(
        folder,
        " image , label, group \n"
        + "".join(f" img/{i}.png , {['no', 'yes '][i % 2]}, 00{i} \n" for i in range(8)),
    )
    assert table.classes == ("no", "yes")
    assert table.frame["group"].tolist() == [f"00{i}" for i in range(8)]
    assert "4 entries of column 'label'" in table.notes[0]
    frame = pd.DataFrame({"label": ["a", "a ", "b"], "site": ["x", " x", ""]})
    table = ImageTable.from_arrays(np.zeros((3, 4, 4)), frame)
    assert table.classes == ("a", "b")
    assert table.frame["site"].isna().tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("words", "classes"),
    [
        (("0.0", "1.0"), None),
        (("False", "True"), None),
        (("0", "1.0"), None),
        (("None", "DR"), ("DR", "None")),
        (("NA", "AF"), ("AF", "NA")),
    ],
)
def test_d9_labels_in_other_forms(folder, words, classes):
    table = table_of(folder, lines("image,label", lambda i: f"img/{i}.png,{words[i % 2]}"))
    assert table.classes == classes
    expected = [0, 1] if classes is None else [classes.index(word) for word in words]
    assert table.frame["label"].tolist() == expected * 4
    words_table = ImageTable.from_arrays(np.zeros((2, 4, 4)), pd.DataFrame({"label": ["False", "True"]}))
    assert words_table.frame["label"].tolist() == [0, 1]


def test_d9_rows_and_columns_that_are_none(folder):
    table = table_of(folder, lines(",image,label", lambda i: f"{i},img\\{i}.png,{i % 2}") + ",,\n")
    assert table.metadata == []
    assert table.files[table.frame["sample_id"].iloc[3]] == "img/3.png"
    assert [note.split(" ")[:3] for note in table.notes] == [
        ["1", "empty", "row(s)"],
        ["the", "column", "of"],
    ]
    trailing = table_of(folder, lines("image,label", lambda i: f"img/{i}.png,{i % 2},"))
    assert trailing.frame["label"].tolist() == [0, 1] * 4
    assert trailing.metadata == []


def test_d9_quoted_line_breaks_and_commas_that_part_thousands(folder):
    text = lines('image,"la\nbel",note,dose', lambda i: f'img/{i}.png,{i % 2},"a\n{i}, b","1,{i}00"')
    table = table_of(folder, text, label="la\nbel")
    assert table.frame["note"].tolist() == [f"a\n{i}, b" for i in range(8)]
    assert table.frame["dose"].tolist()[1] == "1,100"
    assert "may part decimals or thousands" in table.notes[0]


def test_only_empty_cells_are_missing(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\nNone,1\nNA,\n,3\n")
    frame = read_manifest(tmp_path / "a.csv", [])
    assert frame["x"].isna().tolist() == [False, False, True]
    assert frame["y"].isna().tolist() == [False, True, False]
