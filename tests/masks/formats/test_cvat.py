from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.cvat import import_cvat, run_lengths
from shortcutscope.masks.formats.shapes import from_run_lengths

#: Attributes of the elements, as CVAT's documentation of the format lists them.
IMAGE = {"id", "name", "width", "height"}
MASK = {"label", "source", "occluded", "rle", "left", "top", "width", "height", "z_order"}


def decoded(image):
    """The mask of an image element, pixel by pixel as the documentation says."""
    canvas = [[False] * int(image.get("width")) for _ in range(int(image.get("height")))]
    for shape in image.iter("mask"):
        width, pixel, inside = int(shape.get("width")), 0, False
        for run in shape.get("rle").split(","):
            for _ in range(int(run)):
                row, column = divmod(pixel, width)
                if inside:
                    canvas[int(shape.get("top")) + row][int(shape.get("left")) + column] = True
                pixel += 1
            inside = not inside
        assert pixel == width * int(shape.get("height"))
    return np.array(canvas)


def test_the_file_is_of_the_format_and_holds_the_same_pixels(masks, tmp_path):
    path = masks.export(tmp_path / "annotations.xml", format="cvat")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "annotations"
    assert [child.tag for child in root] == ["version", "meta", "image", "image", "image", "image"]
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/labels/label/name") == "ruler"
    assert root.findtext("meta/task/labels/label/attributes/attribute/name") == "confidence"
    for image, entry in zip(root.iter("image"), masks.entries, strict=True):
        assert set(image.attrib) == IMAGE
        assert image.get("name") == entry.image
        assert all(set(shape.attrib) == MASK for shape in image)
        assert np.array_equal(decoded(image), masks.mask(entry.sample_id))
    assert [len(image.findall("mask")) for image in root.iter("image")] == [1, 1, 1, 0]
    assert "threshold" in root.findtext("meta/shortcutscope")


def test_there_and_back(masks, tmp_path, same):
    path = masks.export(tmp_path / "annotations.xml", format="cvat")
    assert same(import_cvat(path, tmp_path / "back", like=masks), masks)
    alone = import_cvat(path, tmp_path / "alone")
    assert alone.name == "ruler"
    assert alone.provenance["threshold"] == 0.4
    assert alone.sample_ids == [entry.image for entry in masks.entries]


@settings(max_examples=60, deadline=None)
@given(mask=array_shapes(min_dims=2, max_dims=2).flatmap(lambda shape: arrays(np.bool_, shape)))
def test_run_lengths(mask):
    lengths = run_lengths(mask)
    assert all(length > 0 for length in lengths[1:])
    assert np.array_equal(from_run_lengths(lengths, mask.shape), mask)


def edited(tmp_path, shapes, head=""):
    path = tmp_path / "edited.xml"
    path.write_text(
        f'<?xml version="1.0"?>{head}<annotations><version>1.1</version>'
        f'<image id="0" name="job/d.png" width="21" height="12">{shapes}</image></annotations>'
    )
    return path


def test_what_a_person_draws(masks, tmp_path):
    path = edited(
        tmp_path,
        '<polygon label="ruler" points="2.0,3.0;9.0,3.0;9.0,7.0;2.0,7.0" occluded="0"/>'
        '<box label="ruler" xtl="15" ytl="1" xbr="18" ybr="4"/>'
        '<box label="lesion" xtl="0" ytl="0" xbr="9" ybr="9"/>'
        '<mask label="ruler" rle="1, 2, 1" left="0" top="10" width="2" height="2"/><tag label="ruler"/>',
    )
    back = import_cvat(path, tmp_path / "back", like=masks)
    expected = np.zeros((12, 21), dtype=bool)
    expected[3:7, 2:9] = True
    expected[1:4, 15:18] = True
    expected[10, 1] = expected[11, 0] = True
    assert np.array_equal(back.mask("s-d"), expected)
    assert back.entry("s-d").edited


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ('<mask label="ruler" rle="1,2" left="0" top="0" width="2" height="2"/>', "run lengths"),
        ('<mask label="ruler" rle="a" left="0" top="0" width="2" height="2"/>', "invalid literal"),
        ('<mask label="ruler" rle="4" left="20" top="0" width="2" height="2"/>', "outside the image"),
        ('<mask label="ruler" left="0" top="0" width="2" height="2"/>', "rle"),
        ('<polygon label="ruler" points="1,1;2,2"/>', "needs 3 points"),
        ('<box label="tube" xtl="0" ytl="0" xbr="9" ybr="9"/>', "no shapes of the label 'ruler'"),
        ("<image", "not a CVAT export"),
    ],
)
def test_malformed_files_are_named(masks, tmp_path, shapes, text):
    with pytest.raises(InputError, match=text) as caught:
        import_cvat(edited(tmp_path, shapes), tmp_path / "back", like=masks)
    assert "edited.xml" in str(caught.value)


def test_declared_entities_are_not_read(tmp_path):
    path = edited(tmp_path, "", head='<!DOCTYPE a [<!ENTITY b "c">]>')
    with pytest.raises(InputError, match="document type"):
        import_cvat(path, tmp_path / "back", name="ruler")
    with pytest.raises(InputError, match="labels"):
        import_cvat(edited(tmp_path, ""), tmp_path / "back")
