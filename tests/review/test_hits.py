"""The review grid: the kernel's side without a browser, the front end in a real one."""

from __future__ import annotations

import builtins

import numpy as np
import pandas as pd
import pytest

import shortcutscope as ss
from shortcutscope.errors import InputError
from shortcutscope.retrieval.hits import Hits
from shortcutscope.retrieval.places import named_boxes
from shortcutscope.retrieval.retrieval import Retrieval

pytest.importorskip("anywidget", reason="the extra jupyter is not installed")


def few_hits(n=7, retrieval=None):
    frame = pd.DataFrame(
        {"rank": range(1, n + 1), "sample_id": [f"s{i}" for i in range(n)], "score": np.linspace(1, 0, n)}
    ).assign(mark=np.nan, label=0, group="", split="")
    frame.loc[1, "mark"] = 1.0
    pictures = {f"s{i}": np.full((24, 24), 30 * i % 256, np.uint8) for i in range(n)}
    return Hits("<ruler>", frame, pictures=pictures, retrieval=retrieval)


def test_answers_reach_the_retrieval(planted):
    retrieval = Retrieval.from_marks(planted.scanned, planted.rare[:8])
    widget = ss.review(retrieval.hits(20), who="AB")
    asked = [item["id"] for item in widget.items if item["mark"] is None][:2]
    widget.answers = {asked[0]: True, asked[1]: False}
    widget._handle_custom_msg({"type": "submit"}, [])
    assert widget.message.startswith("2 marks taken")
    current = retrieval.marks.current.set_index("sample_id")
    assert current.loc[asked, "value"].tolist() == [1, 0]
    assert set(current.loc[asked, "who"]) == {"AB"}


def test_what_a_browser_sends_is_checked():
    widget = ss.review(few_hits())
    widget.answers = {"s1": True, "stranger": True, "s2": "yes"}
    assert widget.answers == {"s1": True}
    assert "no retrieval" in widget.submit()
    assert [item["mark"] for item in widget.items[:3]] == [None, True, None]


def test_refused_marks_are_told_and_not_raised(planted):
    retrieval = Retrieval.from_marks(planted.scanned, planted.rare[:5])
    widget = ss.review(retrieval.hits(200))
    widget.answers = {planted.rare[0]: False}
    assert widget.submit().startswith("Not taken: 4 carriers")


@pytest.fixture
def boxed(planted):
    """A retrieval that sees the images' files."""
    return Retrieval.from_marks(planted.scanned, planted.rare[:8], images=planted.table)


def test_boxes_reach_the_retrieval_and_come_back(boxed):
    hits = boxed.hits(20)
    widget = ss.review(hits)
    assert widget.items[0]["file"] == {"size": (32, 32), "boxes": [], "place": None}
    asked = next(item["id"] for item in widget.items if item["mark"] is None)
    widget.boxes = {asked: [[1, 2, 9, 12.5], [3, 3, 3, 3]]}
    assert "2 boxes taken" in widget.submit()
    assert named_boxes(boxed.marks.places) == [(asked, (1, 2, 9, 12.5)), (asked, (3, 3, 3, 3))]
    assert boxed.marks.current.set_index("sample_id").loc[asked, "value"] == 1
    again = {item["id"]: item for item in ss.review(hits).items}
    assert again[asked]["file"]["boxes"] == [[1, 2, 9, 12.5], [3, 3, 3, 3]]
    widget.boxes = {asked: []}
    widget.submit()
    assert boxed.marks.places.empty
    widget.boxes = {asked: [[1, 2, 9, 12]]}
    widget.answers = {asked: False}
    before = boxed.marks
    assert widget.submit().startswith("Not taken: ")
    assert boxed.marks is before


def test_boxes_that_a_browser_sends_are_checked(boxed):
    widget = ss.review(boxed.hits(3))
    name = widget.items[0]["id"]
    widget.boxes = {
        name: [[-4, 1, 99, 5], [2, 2, 1, 5], [1, 2, 3], ["a", 0, 1, 1], [0, 0, float("nan"), 1]],
        "stranger": [],
    }
    assert widget.boxes == {name: [[0, 1, 32, 5]]}
    volumes = ss.review(few_hits())
    volumes.boxes = {"s0": [[1, 1, 2, 2]]}
    assert volumes.boxes == {}, "nothing is drawn on what is no file's image"


def test_a_larger_picture_is_sent_when_it_is_asked_for(boxed, monkeypatch):
    widget, sent = ss.review(boxed.hits(3)), []
    monkeypatch.setattr(type(widget), "send", lambda _, content: sent.append(content))
    for name in (widget.items[1]["id"], "stranger"):
        widget._handle_custom_msg({"type": "picture", "id": name}, [])
    (reply,) = sent
    assert reply["id"] == widget.items[1]["id"]
    assert reply["src"].startswith("data:image/png;base64,")


def test_a_page_without_widgets_shows_the_pictures():
    bundle = ss.review(few_hits())._repr_mimebundle_()
    shown = (bundle[0] if isinstance(bundle, tuple) else bundle)["text/html"]
    assert shown.count("<img") == 7
    assert "&lt;ruler&gt;" in shown
    assert "<ruler>" not in shown


def test_nothing_to_review_and_a_missing_extra(monkeypatch):
    with pytest.raises(InputError, match="no hits"):
        ss.review(Hits("x", few_hits().frame.head(0)))
    whole = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "anywidget":
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"shortcutscope\[jupyter\]"):
        ss.review(few_hits())


@pytest.fixture
def page(open_grid):
    """The grid with seven hits."""
    return open_grid(ss.review(few_hits()))


def cell(page, k):
    return page.locator(f"[data-id=s{k}]")


def answers(page):
    return page.evaluate("window.state.answers")


def test_clicks_accept_reject_and_undo(page):
    cell(page, 2).click()
    assert answers(page) == {"s2": True}
    assert cell(page, 2).get_attribute("data-state") == "accept"
    assert "carrier" in cell(page, 2).inner_text()
    cell(page, 2).click()
    assert answers(page) == {"s2": False}
    assert "free of it" in cell(page, 2).inner_text()
    cell(page, 2).click()
    assert answers(page) == {}
    assert cell(page, 1).get_attribute("data-state") == "accept"  # as it came


def test_the_whole_grid_by_keyboard(page):
    cell(page, 0).focus()
    for key in ("a", "r", "ArrowRight", "A"):
        page.keyboard.press(key)
    assert answers(page) == {"s0": True, "s1": False, "s3": True}
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("u")
    assert answers(page) == {"s0": True, "s1": False}
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")  # four columns of 560 pixels
    assert page.evaluate("document.activeElement.dataset.id") == "s4"
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.id") == "s6"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.test") == "submit"
    page.keyboard.press("Enter")
    assert page.evaluate("window.sent") == [{"type": "submit"}]
    assert page.evaluate("window.saved") == 4


def test_what_the_kernel_says_is_shown_as_text(page):
    page.evaluate("window.model.set('message', '<b>2 marks taken</b>')")
    assert "<b>2 marks taken</b>" in page.locator("[data-test=status]").inner_text()
    assert "<ruler>" in page.locator("[data-test=review] p").first.inner_text()
    assert page.locator("img").first.evaluate("image => image.naturalWidth") == 24


def test_pages_of_many_hits(open_grid):
    page = open_grid(ss.review(few_hits(130)))
    assert page.locator(".ss-cell:visible").count() == 60
    assert page.locator("[data-test=page]").inner_text() == "1 to 60 of 130"
    page.locator("[data-test=next]").click()
    assert page.evaluate("document.activeElement.dataset.id") == "s60"
    page.keyboard.press("ArrowLeft")
    assert page.locator("[data-test=page]").inner_text() == "1 to 60 of 130"
    page.keyboard.press("End")
    assert page.locator("[data-test=page]").inner_text() == "121 to 130 of 130"
    assert page.locator("[data-test=next]").is_disabled()


@pytest.fixture
def drawing(open_grid):
    """Three hits of 200 x 100 pixels, the first with a proposed place."""
    hits = few_hits(3)
    files = [
        {"size": [100, 200], "boxes": [], "place": [10, 10, 30, 20] if k == 0 else None} for k in range(3)
    ]
    widget = ss.review(hits)
    widget.items = [{**item, "file": file} for item, file in zip(widget.items, files, strict=True)]
    return open_grid(widget)


def boxes(page):
    return page.evaluate("window.state.boxes")


def drag(page, place, start, end):
    """From one share of a picture's width and height to another."""
    box = page.locator(place).bounding_box()
    for k, (x, y) in enumerate((start, end)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        (page.mouse.up if k else page.mouse.down)()


def test_a_box_dragged_in_the_grid_marks_a_carrier(drawing):
    drag(drawing, "[data-id=s2] .ss-picture", (0.75, 0.5), (0.25, 0.2))
    assert answers(drawing) == {"s2": True}
    np.testing.assert_allclose(boxes(drawing)["s2"], [[50, 20, 150, 50]], atol=1.5)
    assert cell(drawing, 2).locator("path.ss-box").count() == 1
    assert "1 carriers, 0 free of it, 1 box." in drawing.locator("[data-test=status]").inner_text()
    drawing.keyboard.press("r")
    assert (answers(drawing), boxes(drawing)) == ({"s2": False}, {"s2": []})
    drawing.keyboard.press("u")
    assert (answers(drawing), boxes(drawing)) == ({}, {})


def test_boxes_on_the_larger_picture_by_mouse(drawing):
    cell(drawing, 0).focus()
    drawing.keyboard.press("z")
    assert drawing.evaluate("window.sent") == [{"type": "picture", "id": "s0"}]
    other = cell(drawing, 2).locator("img").get_attribute("src")
    drawing.evaluate("src => window.model.told({ type: 'picture', id: 's0', src })", other)
    assert drawing.locator("[data-test=desk] img").get_attribute("src") == other
    drag(drawing, "[data-test=desk] .ss-picture", (0.1, 0.1), (0.5, 0.5))
    drag(drawing, "[data-test=desk] .ss-picture", (0.9, 0.9), (0.9, 0.9))
    np.testing.assert_allclose(boxes(drawing)["s0"], [[20, 10, 100, 50], [180, 90, 180, 90]], atol=0.6)
    drawing.keyboard.press("Delete")
    assert len(boxes(drawing)["s0"]) == 1
    drawing.keyboard.press("p")
    assert boxes(drawing)["s0"][1] == [10, 10, 30, 20]
    drawing.keyboard.press("ArrowRight")
    drawing.keyboard.press("r")
    assert answers(drawing) == {"s0": True, "s1": False}
    assert "3. s2" in drawing.locator("[data-test=desk]").inner_text(), "on to the next"
    drawing.keyboard.press("Escape")
    assert not drawing.locator("[data-test=desk]").is_visible()
    assert drawing.evaluate("document.activeElement.dataset.id") == "s2"


def test_a_box_by_keyboard_alone(drawing):
    cell(drawing, 1).focus()
    for key in ("z", "b", "ArrowRight", "ArrowDown", "Shift+ArrowLeft", "Shift+ArrowDown"):
        drawing.keyboard.press(key)
    assert drawing.locator("path.ss-pending").count() == 1
    assert boxes(drawing) == {}
    drawing.keyboard.press("Enter")
    np.testing.assert_allclose(boxes(drawing)["s1"], [[94, 47, 110, 59]])
    for key in ("b", "Escape"):
        drawing.keyboard.press(key)
    assert drawing.locator("path.ss-pending").count() == 0
    assert len(boxes(drawing)["s1"]) == 1
    assert answers(drawing) == {}, "it came as a carrier"
