"""The review grid: the kernel's side without a browser, the front end in a real one."""

from __future__ import annotations

import builtins

import numpy as np
import pandas as pd
import pytest

import shortcutscope as ss
from shortcutscope.errors import InputError
from shortcutscope.retrieval.hits import Hits
from shortcutscope.retrieval.retrieval import Retrieval

pytest.importorskip("anywidget", reason="the extra jupyter is not installed")


def few_hits(n=7, retrieval=None):
    frame = pd.DataFrame(
        {"rank": range(1, n + 1), "sample_id": [f"s{i}" for i in range(n)], "score": np.linspace(1, 0, n)}
    ).assign(mark=np.nan, label=0, group="", split="")
    frame.loc[1, "mark"] = 1.0
    pictures = {f"s{i}": np.full((24, 24), 30 * i, np.uint8) for i in range(n)}
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
