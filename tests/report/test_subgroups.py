"""The report shows every subgroup, points out those that differ, and says where the threshold comes from."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import shortcutscope as ss
from shortcutscope.audit.subgroups import measure_subgroups
from shortcutscope.files import write_json
from shortcutscope.report.charts.subgroups import forest
from shortcutscope.report.html import render
from shortcutscope.report.run_files import read_run
from shortcutscope.report.subgroups import MAX_CROSSED, MAX_DRAWN, summarize_subgroups

N = 300


def stored(classes=2, operating=0.5):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, N)
    samples = pd.DataFrame({"sample_id": range(N), "label": labels, "group": range(N), "split": ""})
    samples["<b>sex"] = np.where(rng.random(N) < 0.5, "F", "M")
    samples["site"] = rng.integers(0, 12, N)
    samples["room"] = np.where(rng.random(N) < 0.01, "rare", "usual")
    for k in range(4):
        samples[f"c{k}"] = rng.integers(0, 6, N)
    logits = rng.normal(size=(N, classes)) + 1.5 * np.eye(classes)[labels]
    logits[(samples["<b>sex"] == "F") & (labels == 1), 1] -= 3
    scanned = SimpleNamespace(samples=samples, logits=logits, task="multiclass")
    statistics = ss.Statistics(n_bootstrap=50, operating=operating)
    return measure_subgroups(scanned, [], ["normal", "pneumonia"][: 2 * (classes == 2)], statistics)


def test_a_run_without_subgroups_says_nothing_of_them(finished_run):
    assert summarize_subgroups(read_run(finished_run))["rows"] == []
    assert "panel-subgroups" not in render(finished_run)


def test_groups_that_differ_are_pointed_out(run_dir):
    write_json(run_dir / "subgroups.json", stored())
    told = summarize_subgroups(read_run(run_dir))
    differing = [row["name"] for row in told["rows"] if row["differs"]]
    assert {"<b>sex=F", "<b>sex=M"} == set(differing)
    assert told["points"] == [told["points"][0]]
    assert told["points"][0].startswith("Positive for pneumonia from a probability of 0.500 (as given).")
    assert "too few patients to say" in told["sentence"]
    rare = next(row for row in told["rows"] if row["name"] == "room=rare")
    assert rare["cells"][0]["text"] == "–"
    assert "5 are needed" in rare["cells"][0]["why"]
    assert len(told["crossed"]) == MAX_CROSSED
    assert "more are in subgroups.json" in told["crossed_note"]
    assert len(told["drawn"]) == MAX_DRAWN
    assert told["drawn_note"]
    names = [row["name"] for row in told["drawn"] if row["column"] == "site"]
    assert names == [f"site={k}" for k in range(12)][: len(names)]


def test_the_page_has_the_tab_and_escapes_names(run_dir):
    write_json(run_dir / "subgroups.json", stored(operating="youden"))
    page = render(run_dir)
    for part in ("panel-subgroups", 'data-test="subgroups"', 'data-test="subgroups-crossed"', "too good"):
        assert part in page
    assert "<b>sex" not in page
    assert "&lt;b&gt;sex" in page


def test_several_classes_are_named_in_their_rows(run_dir):
    write_json(run_dir / "subgroups.json", stored(classes=3))
    told = summarize_subgroups(read_run(run_dir))
    assert len(told["points"]) == 3
    assert any(row["name"] == "class 2: site=0" for row in told["rows"])
    assert told["crossed"] == []
    assert {row["column"] for row in told["drawn"]} <= {"<b>sex", "site", "room", "c0", "c1", "c2", "c3"}
    assert len({row["name"] for row in told["drawn"]}) == len(told["drawn"])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_the_figure_has_a_row_a_group(run_dir, n):
    write_json(run_dir / "subgroups.json", stored())
    told = summarize_subgroups(read_run(run_dir))
    markup = forest({**told, "drawn": told["drawn"][:n]}, "x")
    assert (markup is None) == (n == 0)
    if markup is not None:
        assert all(f"({row['n']})" in markup for row in told["drawn"][:n])
