"""Masks over their images: what is shown, what answers do on the disk, the front end in a real browser."""

from __future__ import annotations

import base64
import builtins
import io
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.draw import polygon2mask

import shortcutscope as ss
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import artifact_mask, plant
from shortcutscope.review.mask_pictures import FINEST, mask_pictures, outline
from shortcutscope.review.masks import review_masks

pytest.importorskip("anywidget", reason="the extra jupyter is not installed")
CONFIDENCE = [0.9, 0.2, 0.5, 0.4, 0.7, 0.1, 0.6, 0.3]
FLAGGED = [1, 3, 6]


@pytest.fixture(scope="module")
def table():
    images = plant(radiographs(8, size=32, seed=50), get_artifact("tag"), prevalence={0: 1.0, 1: 1.0})
    frame = images.frame.assign(sample_id=[f"s{i}" for i in range(8)])
    return images.replaced(frame=frame, transform=lambda image: image.flip(-1))


@pytest.fixture
def masks(table, tmp_path):
    with MaskWriter(tmp_path / "tag", "<tag>") as writer:
        for i, name in enumerate(table.frame["sample_id"]):
            mask = artifact_mask(table, i).numpy() & (i != 7)
            accepted = True if i == 5 else None
            writer.append(
                name,
                mask,
                assessment=Assessment(confidence=CONFIDENCE[i], flagged=i in FLAGGED, accepted=accepted),
            )
    return MaskSet.open(tmp_path / "tag")


def shown(widget):
    return [item["id"] for item in widget.items]


def picture(item):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(item["src"].split(",")[1]))))


def filled(path, size):
    """Pixels whose centre an SVG path holds, by the rule evenodd."""
    inside = np.zeros(size, dtype=bool)
    for part in re.findall("M([^Z]*)Z", path):
        points = np.array([pair.split(",") for pair in part.split()], dtype=float)
        inside ^= polygon2mask(size, points[:, ::-1] - 0.5)
    return inside


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("benefit", ["s1", "s3", "s6", "s2", "s4", "s0", "s7", "s5"]),
        ("confidence", ["s5", "s1", "s7", "s3", "s2", "s6", "s4", "s0"]),
        (None, [f"s{i}" for i in range(8)]),
    ],
)
def test_what_a_look_is_worth_most_comes_first(masks, table, order, expected):
    assert shown(review_masks(masks, table, order=order)) == expected


def test_the_largest_first_some_and_few(masks, table):
    shares = [masks.entry(name).share for name in shown(ss.review(masks, table, order="area"))]
    assert shares == sorted(shares, reverse=True)
    assert shown(ss.review(masks, table, samples=["s4", "s0", "s4"], order=None)) == ["s4", "s0"]
    few = ss.review(masks, table, count=2)
    assert shown(few) == ["s1", "s3"]
    assert "(2 of 8 masks)" in few.words["question"]
    assert shown(ss.review(masks, table.take([2, 5]))) == ["s2", "s5"]


def test_mask_and_image_lie_on_each_other(masks, table):
    for item in ss.review(masks, table, order=None).items:
        row = int(item["id"][1:])
        np.testing.assert_array_equal(picture(item), (table.image(row)[0].numpy() * 255).round())
        mask = filled(item["overlay"]["path"], tuple(item["overlay"]["size"]))
        assert np.array_equal(mask, masks.mask(item["id"])), "before the transform, which mirrors"
    assert ss.review(masks, table, samples=["s1"]).items[0]["score"].endswith("%, flagged")


def test_answers_are_kept_on_the_disk_and_taken_back(masks, table):
    widget = ss.review(masks, table, who="AB", when="2024-05-01")
    assert widget.submit() == "No answer is new."
    widget.answers = {"s0": True, "s1": False, "s5": None, "stranger": True, "s2": "yes"}
    assert widget.answers == {"s0": True, "s1": False, "s5": None}
    widget._handle_custom_msg({"type": "submit"}, [])
    assert widget.message.startswith("3 answers kept")
    assert widget.message.endswith("1 accepted, 1 rejected, 6 open.")
    kept = {name: MaskSet.open(masks.folder).entry(name).accepted for name in ("s0", "s1", "s5", "s2")}
    assert kept == {"s0": True, "s1": False, "s5": None, "s2": None}
    assert widget.recipient.masks.entry("s0").accepted is True
    assert masks.entry("s0").accepted is None, "a set is a value"

    MaskSet.open(masks.folder).reviewed({"s6": True})  # meanwhile, elsewhere
    widget.answers = {"s1": True}
    widget.submit()
    assert MaskSet.open(masks.folder).to_frame().set_index("sample_id")["accepted"].to_dict() == {
        **{f"s{i}": None for i in range(8)},
        **{"s1": True, "s5": True, "s6": True},
    }
    log = pd.read_csv(masks.folder / "reviews.csv")
    assert log.groupby("round")["sample_id"].agg(set).tolist() == [{"s0", "s1", "s5"}] * 2
    assert set(log["who"]) == {"AB"}
    assert set(log["when"]) == {"2024-05-01"}


def test_what_cannot_be_kept_is_told_and_not_raised(masks, table):
    widget = ss.review(masks, table)
    (masks.folder / "masks.json").unlink()
    widget.answers = {"s0": True}
    assert widget.submit().startswith("Not taken: ")


def test_what_cannot_be_reviewed_is_refused(masks, table, tmp_path, monkeypatch):
    for options, words in [
        ({"order": "beauty"}, "order must be one of benefit"),
        ({"opacity": 2}, "opacity"),
        ({"count": 0}, "count"),
        ({"samples": ["x"]}, "no mask of sample 'x'"),
        ({"samples": []}, "no masks to review"),
    ]:
        with pytest.raises(InputError, match=words):
            ss.review(masks, table, **options)
    with pytest.raises(InputError, match="the table lacks 1 of 1 samples"):
        ss.review(masks, table.take([0]), samples=["s1"])
    other = radiographs(8, size=40).replaced(frame=table.frame)
    with pytest.raises(InputError, match=r"has the size \(32, 32\), its image \(40, 40\)"):
        ss.review(masks, other)
    writer = MaskWriter(tmp_path / "half", "half")
    writer.append("s0", np.ones((32, 32), bool))
    with pytest.raises(InputError, match="not finished"):
        ss.review(MaskSet.open(tmp_path / "half"), table)
    with MaskWriter(tmp_path / "signal", "pacing") as writer:
        writer.append("s0", np.ones((32, 32), bool), kind="signal")
    with pytest.raises(InputError, match="is one of a signal"):
        ss.review(MaskSet.open(tmp_path / "signal"), table)
    whole = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "anywidget":
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"shortcutscope\[jupyter\].*export the masks"):
        ss.review(masks, table)


def test_a_turned_photograph_that_is_read_squashed(tmp_path):
    """Of 40 x 100 pixels as stored, turned when displayed, and read as 32 x 32."""
    stored = np.zeros((40, 100), np.uint8)
    stored[5:15, 70:90] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    frame = pd.DataFrame({"image": ["a.png"], "label": [0], "sample_id": ["a"]})
    table = ImageTable.from_frame(frame, sample_id="sample_id", root=tmp_path, size=32)
    geometry = table.geometry(0)
    with MaskWriter(tmp_path / "m", "block") as writer:
        writer.append("a", geometry.orientation.apply(stored > 0), orientation=geometry.orientation)
    masks = MaskSet.open(tmp_path / "m")
    for given_frame in ("displayed", "stored"):
        (made,) = mask_pictures(masks.in_frame(given_frame), table, ["a"], side=50)
        assert made.size == (100, 40)
        assert made.picture.shape == (50, 20)
        (points,) = made.outline
        assert (points.min(0).tolist(), points.max(0).tolist()) == ([25, 70], [35, 90])
        bright = np.argwhere(made.picture > 200)
        assert np.abs(bright.min(0) - [35, 12.5]).max() < 3
        assert np.abs(bright.max(0) + 1 - [45, 17.5]).max() < 3


def test_of_a_volume_the_slice_with_most_of_the_mask(tmp_path):
    volumes = np.random.default_rng(0).random((2, 6, 10, 12), np.float32)
    frame = pd.DataFrame({"sample_id": ["v", "empty"], "label": [0, 1]})
    table = ImageTable.from_arrays(volumes[:, None], frame)
    mask = np.zeros((6, 10, 12), bool)
    mask[3, 2:5, 4:9] = mask[4, 2, 4] = True
    with MaskWriter(tmp_path / "m", "device") as writer:
        writer.append("v", mask)
        writer.append("empty", np.zeros_like(mask))
    made, empty = mask_pictures(MaskSet.open(tmp_path / "m"), table, ["v", "empty"])
    assert made.plane == (3, 6)
    assert made.words[-1] == "slice 4 of 6"
    np.testing.assert_array_equal(made.picture, (volumes[0, 3] * 255).round())
    assert np.array_equal(filled(made.path, made.size), mask[3])
    assert empty.plane == (3, 6)
    assert (empty.path, empty.words[0]) == ("", "empty")


@settings(deadline=None, max_examples=60)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outlines_hold_exactly_the_mask_with_its_holes(mask):
    path = " ".join("M" + " ".join(f"{x:g},{y:g}" for x, y in points) + "Z" for points in outline(mask))
    assert np.array_equal(filled(path, mask.shape), mask)
    x, y = (np.concatenate([points[:, k] for points in outline(mask)] or [[]]) for k in (0, 1))
    following = [np.roll(points, -1, axis=0) for points in outline(mask)]
    x_next, y_next = (np.concatenate([points[:, k] for points in following] or [[]]) for k in (0, 1))
    assert (x * y_next - x_next * y).sum() / 2 == mask.sum(), "holes run the other way round"


def test_outlines_of_large_masks_are_short_and_lose_nothing():
    mask = np.random.default_rng(0).random((4 * FINEST, FINEST)) > 0.8
    mask[:, FINEST // 2 :] = False
    mask[-1, -1] = True
    found = outline(mask)
    assert sum(map(len, found)) < 40_000
    ends = np.concatenate(found).max(0)
    assert ends.tolist() == [FINEST, 4 * FINEST], "a single pixel in the corner is there, and not beyond"


# In the browser


@pytest.fixture
def page(open_grid, masks, table):
    return open_grid(ss.review(masks, table, order=None))


def state(page, k):
    return page.locator(f"[data-id=s{k}]").get_attribute("data-state")


def answers(page):
    return page.evaluate("window.state.answers")


def test_masks_are_answered_by_keyboard_and_taken_back(page):
    assert state(page, 5) == "accept", "as it was answered before"
    page.locator("[data-id=s0]").focus()
    for key in "ar":
        page.keyboard.press(key)
    assert answers(page) == {"s0": True, "s1": False}
    assert "1 accepted, 1 rejected" in page.locator("[data-test=status]").inner_text()
    page.locator("[data-id=s5]").focus()
    page.keyboard.press("u")
    assert answers(page)["s5"] is None
    assert state(page, 5) == "open"
    page.keyboard.press("u")
    assert "s5" not in answers(page)
    assert state(page, 5) == "accept"
    page.locator("[data-id=s5]").click()
    assert state(page, 5) == "reject"
    page.locator("[data-test=submit]").click()
    assert page.evaluate("window.sent") == [{"type": "submit"}]
    assert "<tag>" in page.locator("[data-test=review] p").first.inner_text()


def test_one_slider_sets_the_opacity_of_all_masks(page):
    outlines = page.locator("path.ss-mask")
    assert outlines.count() == 8
    opacity = "paths => [...new Set(paths.map(path => getComputedStyle(path).fillOpacity))]"
    assert outlines.evaluate_all(opacity) == ["0.5"]
    page.locator("[data-test=opacity]").fill("0.2")
    assert outlines.evaluate_all(opacity) == ["0.2"]
    assert page.evaluate("window.state.opacity") == 0.2
    page.locator("[data-test=opacity]").fill("0")
    assert outlines.first.evaluate("path => getComputedStyle(path).strokeOpacity") == "0"
    page.locator("[data-id=s0]").focus()
    page.keyboard.press("m")
    assert not page.locator("svg").first.is_visible()
    page.keyboard.press("m")
    assert page.locator("svg").first.is_visible()


def test_the_mask_covers_what_it_covers_in_the_image(page, masks):
    where = "element => (({ x, y, width, height }) => [x, y, width, height])(element.getBoundingClientRect())"
    x, y, width, height = page.locator("[data-id=s1] img").evaluate(where)
    assert width == height > 100
    rows, columns = np.nonzero(masks.mask("s1"))
    expected = [
        x + columns.min() * width / 32,
        y + rows.min() * height / 32,
        (np.ptp(columns) + 1) * width / 32,
        (np.ptp(rows) + 1) * height / 32,
    ]
    np.testing.assert_allclose(page.locator("[data-id=s1] path.ss-mask").evaluate(where), expected, atol=0.6)
