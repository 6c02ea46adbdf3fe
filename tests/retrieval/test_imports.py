import json

import pandas as pd
import pytest

from shortcutscope.errors import InputError
from shortcutscope.retrieval.imports import read_marks

IDS = ["p1/img1", "p1/img2", "img3.png", "v1.2", "v1.3"]


def said(marks):
    current = marks.current
    return dict(zip(current["sample_id"], current["value"], strict=True))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "sample_id,mark\np1/img1,yes\nimg3.png,No\nv1.2,\nv1.3,accept\n"),
        ("a.tsv", "sample_id\tmark\np1/img1\t1.0\nimg3.png\t0\nv1.2\tnan\nv1.3\tTRUE\n"),
        ("a.csv", "rank;sample_id;mark;label\n1;p1/img1;1;0\n2;img3.png;0.0;1\n3;v1.2;;1\n4;v1.3;x;1\n"),
    ],
)
def test_tables(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert said(read_marks(path, IDS)) == {"p1/img1": 1, "img3.png": 0, "v1.3": 1}


def test_who_and_when_of_the_table_outweigh_those_given(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sample_id,mark,who\nv1.2,1,\nv1.3,0,CD\n")
    kept = read_marks(path, IDS, who="AB", when="May").answers
    assert list(kept["who"]) == ["AB", "CD"]
    assert list(kept["when"]) == ["May", "May"]


def test_spotlight_parquet_with_a_list_of_tags(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": IDS[:3], "tags": [["carrier", "seen"], ["reject"], []]}).to_parquet(path)
    assert said(read_marks(path, IDS)) == {"p1/img1": 1, "p1/img2": 0}


def test_fiftyone(tmp_path):
    path = tmp_path / "samples.json"
    samples = [
        {"filepath": "data/img1.jpg", "tags": ["ruler"]},
        {"sample_id": "v1.2", "filepath": "data/x.jpg", "tags": ["fine"]},
        {"filepath": "data/img3.png", "tags": []},
    ]
    path.write_text(json.dumps({"samples": samples}))
    assert said(read_marks(path, IDS, carrier="Ruler")) == {"p1/img1": 1, "v1.2": 0}


def test_cvat(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(
        '<annotations><version>1.1</version><image id="0" name="p1/img2.png"><tag label="carrier"/></image>'
        '<image id="1" name="img3.png"><tag label="absent"/></image><image id="2" name="v1.2"/></annotations>'
    )
    assert said(read_marks(path, IDS)) == {"p1/img2": 1, "img3.png": 0}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "sample_id,mark\nv1.4,1\n", "is no sample"),  # an id with a dot is no file name
        ("a.csv", "sample_id,mark\nv1.2,perhaps\n", "Name your own word"),
        ("a.csv", "sample_id,note\nv1.2,1\n", "no column mark or value"),
        ("a.csv", "sample_id,mark\nv1.2,\n", "holds no answer"),
        ("a.csv", "sample_id,mark\nv1.2,1\nv1.2,0\n", "yes and no of sample 'v1.2'"),
        ("a.csv", "sample_id,label\nv1.2,1\n", "no column"),  # a class is no mark
        ("a.json", "[]", "not a FiftyOne export"),
        ("a.xml", "<annotations>", "no CVAT export"),
        ("a.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotations/>', "document type"),
        ("a.pkl", "", "allowed are .csv"),
    ],
)
def test_files_that_say_nothing_clear(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_marks(path, IDS)


def test_a_file_name_of_two_samples(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("image,mark\nscan.png,1\n")
    with pytest.raises(InputError, match="could be any of"):
        read_marks(path, ["a/scan.png", "b/scan.png"])
    with pytest.raises(InputError, match="there is no file"):
        read_marks(tmp_path / "b.csv", IDS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"samples": [null]}'),
        ("a.json", b'{"samples": 3}'),
        ("a.json", b"\xff\xfe{"),
        ("a.xml", b"<annotations>\xb5</annotations>"),
        ("a.csv", b"sample_id,mark\n\xd9,1\n"),
    ],
)
def test_r12_damaged_files_of_marks_are_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.(json|xml|csv)"):
        read_marks(path, IDS)


def test_a_table_says_where(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text("sample_id,value,x0,y0,x1,y1\na,1,1,2,3,4\na,1,5,6,7,8\nb,1,,,,\nc,0,,,,\n")
    marks = read_marks(path, ["a", "b", "c"])
    assert marks.aligned_to(["a", "b", "c"]).tolist() == [1, 1, 0]
    assert marks.boxes(["a", "b", "c"]) == {0: [(1, 2, 3, 4), (5, 6, 7, 8)]}


def test_the_boxes_of_a_list_of_hits_were_drawn_by_nobody(tmp_path):
    path = tmp_path / "hits.csv"
    path.write_text("rank,sample_id,score,mark,x0,y0,x1,y1\n1,a,3,1,1,2,3,4\n2,b,1,0,1,2,3,4\n")
    assert not len(read_marks(path, ["a", "b"]).places)


def test_a_box_without_an_answer_is_refused(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text("sample_id,value,x0,y0,x1,y1\na,,1,2,3,4\nb,1,1,2,3,4\n")
    with pytest.raises(InputError, match="a row with a box says 1"):
        read_marks(path, ["a", "b"])
