"""A data set that FiftyOne imports: what its format says of fields, boxes and masks."""

from __future__ import annotations

import base64
import io
import json
import zlib

import numpy as np
import pandas as pd
import pytest

from shortcutscope.errors import InputError
from shortcutscope.masks.fiftyone_marks import fiftyone_boxes
from shortcutscope.masks.formats.fiftyone import import_fiftyone
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.retrieval.hits import Hits


@pytest.fixture
def masks(tmp_path):
    with MaskWriter(tmp_path / "own", "tag", {"version": "1"}) as writer:
        for name, rows in (("a", slice(2, 5)), ("b", slice(0, 0))):
            mask = np.zeros((10, 20), bool)
            mask[rows, 4:14] = True
            mask[3, 5] = False
            assessment = Assessment(confidence=0.5, accepted=True if name == "a" else None)
            writer.append(name, mask, image=f"films/{name}.png", assessment=assessment)
    return MaskSet.open(tmp_path / "own")


@pytest.fixture
def folder(masks, tmp_path):
    return masks.export(tmp_path / "fo", format="fiftyone")


def content(folder, name="samples"):
    return json.loads((folder / f"{name}.json").read_text())


def change(folder, edit):
    samples = content(folder)
    edit(samples["samples"])
    (folder / "samples.json").write_text(json.dumps(samples))


def test_boxes_are_shares_and_masks_arrays_of_the_boxes(folder, masks):
    first, second = content(folder)["samples"]
    assert first["filepath"] == "films/a.png"
    assert first["metadata"] == {"_cls": "ImageMetadata", "height": 10, "width": 20}
    [one] = first["masks"]["detections"]
    assert one["bounding_box"] == [4 / 20, 2 / 10, 10 / 20, 3 / 10]
    assert (one["label"], one["confidence"], one["accepted"]) == ("tag", 0.5, True)
    packed = zlib.decompress(base64.b64decode(one["mask"]["$binary"]["base64"]))
    np.testing.assert_array_equal(np.load(io.BytesIO(packed)), masks.mask("a")[2:5, 4:14])
    assert second["masks"] == {"_cls": "Detections", "detections": []}


def test_every_field_is_in_the_schema_and_ids_differ(folder):
    metadata, samples = content(folder, "metadata"), content(folder)["samples"]
    fields = {field["db_field"] for field in metadata["sample_fields"]}
    assert all(set(sample) == fields for sample in samples)
    ids = [metadata["_id"]["$oid"], *(sample["_id"]["$oid"] for sample in samples)]
    assert len(set(ids)) == 3
    assert all(len(one) == 24 and int(one, 16) >= 0 for one in ids)


def test_boxes_of_it_are_marks(folder):
    assert fiftyone_boxes(folder / "samples.json", "tag") == {"films/a.png": [(4.0, 2.0, 14.0, 5.0)]}


def test_a_box_that_a_person_moved_or_drew_comes_back(folder, masks, tmp_path):
    def edit(samples):
        samples[0]["masks"]["detections"][0]["bounding_box"] = [0.0, 0.0, 1.0, 0.6]  # twice as large
        samples[1]["truth"] = {"detections": [{"label": "tag", "bounding_box": [0.5, 0.5, 0.1, 0.1]}]}

    change(folder, edit)
    back = import_fiftyone(folder, tmp_path / "back", like=masks)
    np.testing.assert_array_equal(
        back.mask("a")[:6], masks.mask("a")[2:5, 4:14].repeat(2, axis=0).repeat(2, axis=1)
    )
    assert back.mask("b").sum() == 2
    assert back.entry("a").edited


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda s: s[0].update(metadata=None), "compute_metadata"),
        (lambda s: s[0]["masks"]["detections"][0].update(mask_path="x.png", mask=None), "mask"),
        (lambda s: s[0]["masks"]["detections"][0].update(bounding_box=[0.9, 0, 0.5, 1]), "outside"),
        (lambda s: s[0]["masks"]["detections"][0].update(bounding_box=["nan"] * 4), "box"),
        (lambda s: s[0]["masks"]["detections"][0].update(label="Tag"), "spelling"),
        (lambda s: s[0]["masks"]["detections"][0]["mask"]["$binary"].update(base64="eJw="), "cannot be read"),
        (
            lambda s: s[0]["masks"]["detections"][0]["mask"]["$binary"].update(
                base64=base64.b64encode(zlib.compress(b"0" * 10**6)).decode()
            ),
            "more than 200 pixels",
        ),
    ],
)
def test_what_cannot_be_a_mask_is_refused(folder, tmp_path, edit, told):
    change(folder, edit)
    with pytest.raises(InputError, match=told):
        import_fiftyone(folder, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_hits_are_labels_with_rank_score_and_mark(tmp_path):
    frame = pd.DataFrame(
        {"rank": [1, 2], "sample_id": ["s1", "s2"], "score": [0.9, 0.4], "mark": [1.0, np.nan],
         "label": [1, 0], "group": ["patient 7", "patient 8"], "x0": [3.0, np.nan]}
    )  # fmt: skip
    Hits("ruler", frame).to_fiftyone(tmp_path / "fo", {"s1": "films/1.png", "s2": "films/2.png"})
    first, second = content(tmp_path / "fo")["samples"]
    [label] = first["hits"]["classifications"]
    assert {k: label[k] for k in ("label", "rank", "score", "mark", "x0")} == {
        "label": "ruler", "rank": 1, "score": 0.9, "mark": 1.0, "x0": 3.0
    }  # fmt: skip
    assert second["hits"]["classifications"][0]["mark"] is None
    assert (first["filepath"], second["sample_id"]) == ("films/1.png", "s2")
    assert "patient" not in (tmp_path / "fo" / "samples.json").read_text()
