"""Figures are inline, take their colours from the page, and survive gaps and odd names."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from shortcutscope.report import figures
from shortcutscope.report.summary import summarize
from shortcutscope.report.svg import _VARIABLES


@pytest.fixture(scope="module")
def report(finished_run):
    return summarize(finished_run)


@pytest.fixture(scope="module")
def drawn(report):
    """Every kind of figure of the first finding."""
    finding = report["findings"][0]
    extent = finding["extent"]
    return {
        "a": figures.availability_heatmap(report["heatmaps"], "a"),
        "b": figures.use_heatmap(report["heatmaps"], "b"),
        "c": figures.availability_curve(finding, "c"),
        "d": figures.use_curve(finding, "d"),
        "e": figures.cell_map(extent, "e", "tag"),
        "f": figures.extent_zones(extent, "f", "tag"),
        "g": figures.lit_curve(extent, "g", "tag"),
        "h": figures.layer_maps(extent, "h", "tag"),
        "i": figures.relevance_bar(0.5, "i"),
    }


def texts(svg):
    root = ElementTree.fromstring(svg)
    return ["".join(e.itertext()) for e in root.iter("{http://www.w3.org/2000/svg}text")]


def test_is_well_formed_and_loads_nothing(drawn):
    for svg in drawn.values():
        ElementTree.fromstring(svg)
        references = re.findall(r'(?:href=|url\()"?([^")]+)', svg)
        assert all(r.startswith(("#", "data:")) for r in references)
        assert "<style" not in svg  # it would reach the whole page


def test_no_placeholder_colour_or_own_font_is_left(drawn):
    for svg in drawn.values():
        assert not any(colour in svg for colour in _VARIABLES)
        assert "font-family" not in svg
        assert "var(--ss-" in svg


def test_ids_are_unique_on_the_page_and_references_are_kept(drawn):
    ids = [i for svg in drawn.values() for i in re.findall(r' id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in drawn.values():
        for target in re.findall(r'(?:href="|url\()#([^")]+)', svg):
            assert f'id="{target}"' in svg


def test_has_a_text_for_screen_readers(drawn):
    assert all('role="img" aria-label="' in svg for svg in drawn.values())


def test_is_deterministic_and_touches_no_global_state(report):
    before = dict(matplotlib.rcParams)
    first, second = (figures.availability_heatmap(report["heatmaps"], "x") for _ in range(2))
    assert first == second
    assert dict(matplotlib.rcParams) == before


def test_heatmap_numbers_its_cells_and_greys_those_within_the_null(report):
    svg = figures.availability_heatmap(report["heatmaps"], "x")
    values = np.array(report["heatmaps"]["auroc"])
    assert sum(bool(re.fullmatch(r"\.\d\d|1\.00", t)) for t in texts(svg)) == values.size
    quiet = (values <= np.array(report["heatmaps"]["null_high"])).sum()
    assert quiet == 9
    assert svg.count("fill: var(--ss-panel)") == quiet


def test_use_below_the_threshold_is_greyed(report):
    svg = figures.use_heatmap(report["heatmaps"], "x")
    quiet = (np.abs(np.array(report["heatmaps"]["use"])) < 0.2).sum()
    assert svg.count("fill: var(--ss-panel)") == quiet


def test_unknown_cells_carry_no_number():
    maps = {
        "concepts": ["a"], "layers": ["l1", "l2"], "auroc": [[0.9, None]], "null_high": [[None, None]],
        "use": [[None, None]], "threshold": None,
    }  # fmt: skip
    assert ".90" in texts(figures.availability_heatmap(maps, "x"))
    figures.use_heatmap(maps, "y")


@pytest.mark.parametrize("n", [1, 60])
def test_any_number_of_layers(n):
    maps = {
        "concepts": ["a"], "layers": [f"features.denseblock{i}.layer" for i in range(n)],
        "auroc": [[0.8] * n], "null_high": [[0.55] * n],
    }  # fmt: skip
    labels = [t for t in texts(figures.availability_heatmap(maps, "x")) if t.startswith("…")]
    assert 0 < len(labels) <= 20


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "$\\frac{1}{2}$", "a & b", "#010203", "名前"])
def test_names_are_text(name):
    maps = {"concepts": [name], "layers": ["<b>"], "auroc": [[0.9]], "null_high": [[0.5]]}
    svg = figures.availability_heatmap(maps, "x")
    assert "<script" not in svg
    assert {name, "<b>"} <= set(texts(svg))


def test_curves_with_gaps(report):
    finding = dict(report["findings"][0])
    curves = {k: list(v) for k, v in finding["curves"].items()}
    for key in curves.keys() - {"layers"}:
        curves[key][2] = None
    curves["use_low"] = curves["use_high"] = [None] * 9
    finding |= {"curves": curves, "used": {"threshold": None}}
    assert "nan" not in figures.availability_curve(finding, "x")
    assert "nan" not in figures.use_curve(finding, "x")


def test_extent_without_zones_interval_or_layers():
    extent = {"zones": None, "interval": None, "statistic": 0.4, "layers": [], "cell_map": [[0.5, None]]}
    assert "undetermined" not in figures.extent_zones(extent, "x", "c")
    assert figures.lit_curve(extent, "x", "c") is None
    assert figures.layer_maps(extent, "x", "c") is None
    figures.cell_map(extent, "x", "c")
