"""Shapes of a FiftyOne export as marks with boxes."""

from __future__ import annotations

import json

import pytest

import shortcutscope as ss
from shortcutscope.errors import InputError
from shortcutscope.masks.drawn_marks import drawing_format

SIZE = {"_cls": "ImageMetadata", "width": 200, "height": 100}
STAMP = {"label": "stamp", "bounding_box": [0.5, 0.25, 0.1, 0.5]}
WIRE = {"label": "wire", "points": [[[0.1, 0.2], [0.4, 0.1]], [[0.2, 0.9]]]}


def export(tmp_path, *samples):
    path = tmp_path / "samples.json"
    path.write_text(json.dumps({"samples": samples}))
    return path


def sample(name, *detections, metadata=SIZE, polylines=()):
    return {
        "filepath": f"data/{name}.png", "tags": [], "metadata": metadata,
        "ground_truth": {"_cls": "Detections", "detections": list(detections)},
        "lines": {"_cls": "Polylines", "polylines": list(polylines)}, "guess": None,
    }  # fmt: skip


def test_shares_become_pixels(tmp_path):
    path = export(tmp_path, sample("a", STAMP, STAMP), sample("b"), sample("c", polylines=[WIRE]))
    assert drawing_format(path) == "fiftyone"
    marks = ss.read_drawn_marks(path, ["a.png", "b.png", "c.png"], format="fiftyone", name="stamp")
    assert marks.places.drop_duplicates().to_numpy().tolist() == [["a.png", 100, 25, 120, 75]]
    wires = ss.read_drawn_marks(path, ["a.png", "b.png", "c.png"], format="fiftyone", name="wire")
    assert wires.places.to_numpy().tolist() == [["c.png", 20, 10, 80, 90]]
    assert wires.current["sample_id"].tolist() == ["c.png"], "an image without a shape is not marked"


def test_tags_alone_are_no_drawing(tmp_path):
    assert drawing_format(export(tmp_path, sample("a"))) is None


@pytest.mark.parametrize(
    ("samples", "name", "message"),
    [
        ([sample("a", STAMP), sample("c", polylines=[WIRE])], None, "stamp, wire; name one"),
        ([sample("a", STAMP)], "tube", "no shape of 'tube'"),
        ([sample("a", STAMP, metadata=None)], None, "compute_metadata"),
        ([sample("a", {"label": "stamp", "bounding_box": [1, 2]})], None, "FiftyOne export"),
    ],
)
def test_what_is_refused(tmp_path, samples, name, message):
    with pytest.raises(InputError, match=message):
        ss.read_drawn_marks(export(tmp_path, *samples), ["a", "c"], format="fiftyone", name=name)
