"""The suite of masks: what it lists, how it sums up, and one real case (slow)."""

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import masks


@pytest.fixture
def settings(tmp_path):
    return Settings(quick=False, seed=0, data=None, cache=Path(tmp_path), jobs=1)


def test_at_least_twenty_models_each_in_every_way(settings):
    listed = masks.cases(settings)
    models = {(c["task"], c["kind"], c["seed"]) for c in listed}
    ways = {(c["source"], c["method"]) for c in listed}
    assert len(models) >= 20
    assert len(listed) == len(models) * len(ways)
    assert {("truth", "fusion"), ("marks", "fusion"), ("truth", "clarc"), ("truth", "input")} <= ways


def finished(source, method, kind, iou, **more):
    return {
        "task": "phantom", "kind": kind, "seed": 0, "source": source, "method": method, "iou": iou,
        "pixel_auroc": 0.99, "false_mask_rate": 0.01, "spearman": 0.6, "cost_fb": 3.0, **more,
    }  # fmt: skip


def test_masks_that_are_all_as_good_have_no_correlation():
    sure = np.array([0.2, 0.5, 0.9])
    assert masks._correlation(sure, np.ones(3)) is None
    assert masks._correlation(sure[:1], np.array([0.4])) is None
    assert masks._correlation(sure, np.array([0.1, 0.2, 0.7])) == pytest.approx(1)


def test_the_summary_is_judged_by_kinds_and_by_marks():
    cases = [
        finished("truth", "fusion", "tag", 0.9),
        finished("truth", "fusion", "patch", 0.4, false_mask_rate=0.2),
        finished("marks", "fusion", "tag", 0.8),
        finished("marks", "fusion", "patch", 0.3),
        {"kind": "tag", "source": "truth", "method": "clarc", "iou": 0.3, "pixel_auroc": 0.9},
    ]
    summary = masks.summarize(cases)
    assert summary["truth fusion"]["iou"] == pytest.approx(0.65)
    assert summary["truth clarc"]["iou"] == pytest.approx(0.3)
    assert "cost_fb" not in summary["truth clarc"]
    met = summary["met"]
    assert met["iou"]
    assert met["iou of tag"]
    assert not met["iou of patch"]
    assert not met["false_mask_rate"]
    assert not met["iou from marks"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fusion", "clarc", "grad_cam", "integrated_gradients", "input"])
def test_a_real_case(settings, method):
    case = {"task": "phantom", "kind": "tag", "seed": 0, "source": "truth", "method": method}
    measured = masks.run_case(case, settings)
    assert measured["pixel_auroc"] > 0.6
    if method == "fusion":
        assert measured["iou"] > 0.7
        assert measured["cost_fb"] < 10
