from pathlib import Path

import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import audit as bench

SETTINGS = Settings(quick=True, seed=0, data=None, cache=Path("unused"), jobs=1)


def test_cases_are_audits_of_four_sizes_and_a_comparison():
    full = bench.cases(Settings(quick=False, seed=0, data=None, cache=Path("unused"), jobs=1))
    assert [(c["model"], c["samples"], c["input"], c["encoded"] + c["others"]) for c in full] == [
        ("resnet18", 1_000, 128, 10),
        ("thin_resnet18", 800, 64, 5),
        ("resnet50", 300, 224, 5),
        ("thin_resnet18", 800, 64, 20),
        ("thin_resnet18", 800, 64, 1),
    ]
    assert [c["samples"] for c in bench.cases(SETTINGS)] == [250, 200, 75, 200, 200]


@pytest.mark.slow
def test_a_small_audit_is_measured_and_decodes_every_image_once(monkeypatch):
    monkeypatch.setattr(bench, "in_process", lambda work, *arguments: work(*arguments))
    case = {"model": "thin_resnet18", "samples": 96, "input": 32, "encoded": 1, "others": 0, "bar": 1e9}
    measured = bench.run_case(case, SETTINGS)
    assert measured["decoded"] == 1
    assert measured["ratio"] > 1
    assert abs(sum(measured["share"].values()) - 1) < 1e-9
    assert {"scan", "probe", "usage", "extent", "rank"} <= set(measured["share"])
    compared = bench.run_case({**case, "compared": True}, SETTINGS)
    assert compared["decoded"] <= 1
    summary = bench.summarize([{**case, **measured}, {**case, **compared, "bar": 0.0}])
    assert not summary["bars_met"]
