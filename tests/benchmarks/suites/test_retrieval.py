"""The retrieval suite: what it lists, how it sums up, and one real case (slow)."""

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import retrieval
from shortcutscope.data.table import ImageTable
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import artifact_mask, plant


@pytest.fixture
def settings(tmp_path):
    return Settings(quick=False, seed=0, data=None, cache=Path(tmp_path), jobs=1)


def test_every_kind_twice_on_two_tasks(settings):
    listed = retrieval.cases(settings)
    kinds = {case["kind"] for case in listed}
    assert len(kinds) >= 11
    assert len(listed) == len(kinds) * 4
    assert {case["group"] for case in listed} == {"localized", "diffuse"}


def finished(kind, group, auroc, interval=(0.5, 1.0)):
    keys = (
        "ap", "auroc_after", "ap_after", "common_auroc", "common_auroc_after", "all_auroc", "new_auroc",
        "new_ap_after", "layers_auroc", "layers_ap_after",
    )  # fmt: skip
    figures = dict.fromkeys(keys, 0.9)
    return {
        "task": "phantom", "kind": kind, "group": group, "seed": 0, **figures, "auroc": auroc,
        "boxed_auroc": 0.95 if group == "localized" else None,
        "precision": 0.8, "precision_interval": list(interval),
    }  # fmt: skip


def test_the_summary_is_judged_by_kinds(settings):
    cases = [
        finished("tag", "localized", 1.0),
        finished("tag", "localized", 0.84),
        finished("noise", "diffuse", 0.99, interval=(0.9, 1.0)),
        finished("blur", "diffuse", 0.97),
    ]
    summary = retrieval.summarize(cases)
    assert summary["kind_auroc"] == pytest.approx(0.92)
    assert summary["diffuse_auroc"] == pytest.approx(0.97)
    assert summary["met"] == {
        "mean_auroc": False,
        "diffuse_auroc": False,
        "kind_auroc": True,
        "boxed_kind_auroc": True,
        "median_ap_after": False,
    }
    assert summary["boxed_auroc_by_kind"] == {"tag": pytest.approx(0.95)}
    assert retrieval.summarize(cases[2:])["boxed_kind_auroc"] is None
    assert summary["precision_covered"] == pytest.approx(0.75)


def test_boxes_lie_around_what_was_planted():
    images = np.zeros((4, 32, 32), np.float32)
    table = plant(ImageTable.from_arrays(images, [0, 0, 1, 1]), CATALOGUE["tag"], prevalence={0: 1, 1: 1})
    marks = retrieval.with_boxes(table, np.arange(3), "tag")
    ids = table.frame["sample_id"].astype(str).tolist()
    for row, several in marks.boxes(ids).items():
        ((x0, y0, x1, y1),) = (np.array(box, int) for box in several)
        mask = artifact_mask(table, row, "tag").numpy()
        assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
        assert mask[y0].any()
        assert mask[:, x1 - 1].any()


@pytest.mark.slow
def test_a_real_case(settings):
    case = {"task": "phantom", "kind": "noise", "group": "diffuse", "seed": 0}
    measured = retrieval.run_case(case, settings)
    assert measured["auroc"] > 0.98
    assert measured["ap_after"] > 0.95
    assert measured["new_auroc"] > 0.95
    assert np.isfinite(measured["recovery"])
