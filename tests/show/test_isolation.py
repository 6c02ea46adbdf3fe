"""What a notebook shows of results: escaped, isolated, with their text where nothing else is shown."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.student import Student
from shortcutscope.retrieval.hits import Hits
from shortcutscope.show import parts
from shortcutscope.show.isolation import isolated, page, sheet
from shortcutscope.show.palette import DARK, LIGHT, palette

EVIL = "<img src=x onerror=alert(1)>"


def test_every_part_escapes_what_it_is_given():
    shown = "".join(
        [
            parts.heading(EVIL, EVIL),
            parts.facts({EVIL: EVIL}),
            parts.notes([EVIL]),
            parts.table(pd.DataFrame({EVIL: [EVIL]})),
            parts.pictures([(None, EVIL)]),
            parts.curves([{"step": k, EVIL: k} for k in range(3)], "step"),
            isolated("", EVIL),
            page(EVIL),
        ]
    )
    assert "<img" not in shown
    assert shown.count("&lt;img") >= 9


def test_nothing_is_shown_of_nothing():
    empty = [parts.facts({"a": None}), parts.notes([]), parts.table(pd.DataFrame()), parts.pictures([])]
    assert [*empty, parts.curves([{"step": 1, "loss": 2.0}], "step")] == [""] * 5


def test_a_table_says_how_much_of_it_is_not_shown():
    text = parts.table(pd.DataFrame({"auroc": [0.123456, np.nan]}), more=7)
    assert "0.123<" in text
    assert "and 7 more" in text
    assert "NaN" not in text


def test_colours_follow_the_page_before_the_system():
    rules = palette(".x")
    assert rules.index("prefers-color-scheme") < rules.index("data-jp-theme-light")
    assert rules.count(LIGHT) == 3
    assert rules.count(DARK) == 2


def results():
    frame = pd.DataFrame({"rank": [1], "sample_id": ["s0"], "score": [0.5], "mark": [np.nan]})
    images = np.zeros((4, 1, 8, 8), np.float32)
    yield ImageTable.from_arrays(images, pd.DataFrame({"label": [0, 1, 0, 1]}), value_range=(0, 1))
    yield Hits("ruler", frame, pictures={"s0": np.zeros((8, 8), np.uint8)})
    history = tuple({"step": k, "loss": 1 / (k + 1)} for k in range(4))
    yield Student("erm", None, ("a note",), {"steps": 4}, history)


@pytest.mark.parametrize("result", list(results()), ids=lambda result: type(result).__name__)
def test_results_are_isolated_and_bring_their_text(result):
    html = result._repr_html_()
    assert html.startswith('<div class="ss-host"')
    assert "shadowrootmode" in html
    assert type(result).__name__ in html.partition("<pre>")[2]


def test_the_sheet_is_said_once_for_each_element():
    assert sheet("<p>a</p>", "<p>b</p>", plain="c").count("<style>") == 2
