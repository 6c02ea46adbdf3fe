"""Dots lie where their means are, on the row and in the panel that they belong to."""

from __future__ import annotations

import io

import pytest

from shortcutscope.benchmarks.figures.dots import Dot, Panel, dots


def test_rows_panels_and_what_lies_outside() -> None:
    first = Panel("a", [Dot("erm", "2 %", 0.5, 0.4, 0.6), Dot("dfr", "2 %", 0.7)])
    second = Panel("b", [Dot("dfr", "10 %", -3.0, -4.0, -2.0)])
    drawn = dots([first, second], "share", limits=(0.0, 1.0), lines=(1.0,))
    left, right = drawn.axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["erm", "dfr"]
    points = [line.get_xydata()[0] for line in left.lines if len(line.get_xydata()) == 1]
    assert [point[0] for point in points] == pytest.approx([0.5, 0.7])
    assert [round(point[1]) for point in points] == [0, 1]
    arrow = next(line for line in right.lines if line.get_marker() == "<")
    assert arrow.get_xdata()[0] == 0.0
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["2 %", "10 %"]
    drawn.savefig(io.BytesIO(), format="png")
