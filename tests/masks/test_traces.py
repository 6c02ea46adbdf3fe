"""Signals and their masks as pictures."""

import numpy as np
import pytest

import shortcutscope as ss
from shortcutscope.data.table import ImageTable
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.traces import leads_named, span_outlines
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.report.overlay import draw_areas, draw_overlays
from shortcutscope.review.mask_pictures import mask_pictures


@pytest.fixture
def problem(tmp_path):
    signals = np.zeros((3, 12, 600), np.float32)
    signals[:, :, ::60] = 1
    table = ImageTable.from_arrays(signals, np.array([0, 1, 0]), dims=1)
    with MaskWriter(tmp_path / "m", "flat") as writer:
        for k, name in enumerate(table.frame["sample_id"]):
            mask = np.zeros((12, 600), bool)
            mask[4 : 4 + k, 150:300] = True
            writer.append(name, mask, kind="signal", assessment=Assessment(confidence=0.3 * k))
    return MaskSet.open(tmp_path / "m"), table


def test_spans_are_boxes_in_the_picture(problem):
    masks, table = problem
    shown = list(mask_pictures(masks, table, masks.sample_ids))
    assert [len(one.outline) for one in shown] == [0, 1, 2]
    height, width = shown[1].size
    assert shown[1].picture.shape == (height, width)
    assert np.allclose(shown[1].outline[0].min(0), (width / 4, height * 4 / 12))
    assert np.allclose(shown[1].outline[0].max(0), (width / 2, height * 5 / 12))
    assert [one.leads for one in shown] == ["", "lead 5 of 12", "2 of 12 leads"]
    assert "lead 5 of 12" in shown[1].words
    assert leads_named(np.ones((2, 3), bool)) == "2 of 2 leads"
    assert span_outlines(np.zeros((2, 3), bool), (4, 6)) == ()


def test_signals_are_drawn_in_figures_and_in_the_grid(problem):
    masks, table = problem
    figure = draw_overlays(masks, table)
    assert len(figure.axes) == 2  # without a scale of grey
    assert masks.mean_mask().shape == (12, 64)
    assert len(draw_areas(masks).axes) == 3
    pytest.importorskip("anywidget")
    items = ss.review(masks, table, order=None).items
    assert items[2]["overlay"]["size"] == [216, 320]
    assert items[2]["overlay"]["path"].count("M") == 2
