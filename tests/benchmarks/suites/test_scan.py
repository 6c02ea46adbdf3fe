from pathlib import Path

import numpy as np
import pytest
import torch

from shortcutscope.benchmarks import peak
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import scan as bench

SETTINGS = Settings(quick=True, seed=0, data=None, cache=Path("unused"), jobs=1)

MEASURED = {
    "ratio_fb": 1.0, "ratio_all_vs_one": 1.1, "ratio_captum_per_layer": 6.0, "ratio_captum_list": 1.0,
    "ratio_captum_per_layer_both": 7.0, "ratio_captum_list_both": 1.4,
    "memory_ratio_fb": 0.9,
}  # fmt: skip


def test_cases_are_those_of_the_bar():
    listed = [(case["model"], case["input"]) for case in bench.cases(SETTINGS) if "samples" not in case]
    assert listed == [("resnet18", 64), ("resnet50", 224), ("vgg16", 128), ("vit_tiny", 224)]
    full = Settings(quick=False, seed=0, data=None, cache=Path("unused"), jobs=1)
    assert bench.cases(full)[-1]["samples"] == [1_000, 20_000]


def test_functions_take_turns_after_a_round_of_warming_up():
    calls = []
    times = bench.cpu_times({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3)
    assert calls == ["a", "b"] * 4
    assert [len(values) for values in times.values()] == [3, 3]


def test_ratio_is_the_median_within_rounds():
    assert bench.ratio([2, 30, 4], [1, 10, 4]) == 2


def test_summary_tells_whether_the_bars_are_met():
    resnet = {"model": "resnet18", **MEASURED}
    growth = {"model": "thin_resnet18", "memory_growth": 1.02}
    deep = {**resnet, "model": "resnet50", "ratio_captum_per_layer": 13.0, "ratio_fb": 1.1}
    summary = bench.summarize([resnet, deep, growth])
    assert summary["bars_met"] is True
    assert summary["worst_ratio_fb"] == 1.1
    assert summary["captum_per_layer"] == {"resnet18": 6.0, "resnet50": 13.0}
    assert bench.summarize([{**resnet, "ratio_fb": 1.2}])["bars_met"] is False
    assert bench.summarize([{**resnet, "ratio_captum_per_layer": 4.9}])["bars_met"] is False
    unknown = bench.summarize([{**resnet, "memory_ratio_fb": None}])
    assert unknown["bars_met"] is None
    assert unknown["bars_not_measured"] == [
        "memory_ratio_fb",
        "memory_growth",
        "captum_per_layer of resnet50",
    ]


def test_measures_a_case_in_this_process(monkeypatch):
    monkeypatch.setattr(bench, "in_process", lambda function, *arguments: {"memory_ratio_fb": None})
    measured = bench.run_case({"model": "resnet18", "input": 32, "batch": 1}, SETTINGS)
    assert measured["layers"] == 9
    assert measured.keys() >= {*MEASURED}
    assert measured["ratio_captum_per_layer_both"] > measured["ratio_captum_list_both"]
    assert all(measured[key] > 0 for key in MEASURED if key != "memory_ratio_fb")


def test_peak_counts_what_is_freed_again():
    def needs_80_mib():
        buffer = np.ones(10 * 2**20)
        del buffer
        return torch.ones(2**20)

    needs_80_mib()
    try:
        found = peak.peak_extra_bytes(needs_80_mib)
    except peak.NotMeasurableError as error:
        pytest.skip(str(error))
    assert 76 * 2**20 < found < 90 * 2**20
    assert peak.peak_bytes() > found


def test_systems_without_counters_say_so(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "STATUS", tmp_path / "status")
    with pytest.raises(peak.NotMeasurableError, match="no memory counters"):
        peak.peak_bytes()
    monkeypatch.setattr(peak, "CLEAR", tmp_path / "missing" / "clear_refs")
    with pytest.raises(peak.NotMeasurableError, match="cannot be reset"):
        peak.peak_extra_bytes(lambda: None)
