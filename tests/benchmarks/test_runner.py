"""The benchmark runner: nothing dropped, nothing run twice, nothing half written."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from shortcutscope.benchmarks.live_table import LiveTable
from shortcutscope.benchmarks.records import Records
from shortcutscope.benchmarks.runner import Settings, Suite, run
from shortcutscope.machine import default_cache

SPAWNED = """
import os
from pathlib import Path
from shortcutscope.benchmarks.runner import Suite

def cases(settings):
    return [{"n": n} for n in range(4)]

def run_case(case, settings):
    import torch
    Path(settings.cache, f"ran-{case['n']}-{os.getpid()}").touch()
    if case["n"] == 2:
        os._exit(9)
    return {"threads": torch.get_num_threads(), "square": case["n"] ** 2}

def summarize(cases):
    return {"total": sum(case["square"] for case in cases)}

SUITE = Suite("spawned", cases, run_case, summarize, ("n", "square"))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(quick=True, seed=0, data=None, cache=tmp_path / "cache", jobs=1)


class Recorder:
    """A suite that notes its calls and fails where told."""

    def __init__(self, failing: set[int] = frozenset(), n: int = 3) -> None:
        self.calls: list[int] = []
        self.failing = failing
        self.suite = Suite(
            "toy", lambda s: [{"n": i} for i in range(n)], self.run_case, self.sum, ("n", "score")
        )

    def run_case(self, case: dict, settings: Settings) -> dict:
        self.calls.append(case["n"])
        if case["n"] in self.failing:
            raise RuntimeError(f"case {case['n']} is broken")
        return {"score": np.float32(case["n"] / 2), "missing": float("nan"), "array": np.arange(2)}

    @staticmethod
    def sum(cases: list[dict]) -> dict:
        return {"mean": sum(case["score"] for case in cases) / len(cases)}


def test_result_lists_every_case_and_the_summary_comes_from_them(settings: Settings, tmp_path: Path) -> None:
    result = run(Recorder().suite, settings, tmp_path / "out" / "toy.json", progress=False)
    assert result["suite"] == "toy"
    assert [case["n"] for case in result["cases"]] == [0, 1, 2]
    assert [case["score"] for case in result["cases"]] == [0, 0.5, 1]
    assert result["summary"] == {"n_cases": 3, "n_failed": 0, "mean": 0.5}
    assert result["machine"]["packages"]["torch"]
    assert json.loads((tmp_path / "out" / "toy.json").read_text()) == result


def test_json_has_null_where_a_measurement_is_not_a_number(settings: Settings, tmp_path: Path) -> None:
    run(Recorder().suite, settings, tmp_path / "toy.json", progress=False)
    text = (tmp_path / "toy.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["cases"][0]["missing"] is None
    assert json.loads(text)["cases"][0]["array"] == [0, 1]


def test_failed_case_is_listed_and_only_it_is_run_again(settings: Settings) -> None:
    first = Recorder(failing={1})
    result = run(first.suite, settings, progress=False)
    assert first.calls == [0, 1, 2]
    assert result["cases"][1]["error"] == "RuntimeError: case 1 is broken"
    assert result["summary"] == {"n_cases": 3, "n_failed": 1, "mean": 0.5}
    stored = list(settings.cache.rglob("error.json"))
    assert len(stored) == 1
    assert "Traceback" in json.loads(stored[0].read_text())["traceback"]

    second = Recorder()
    result = run(second.suite, settings, progress=False)
    assert second.calls == [1]
    assert result["summary"]["n_failed"] == 0
    assert not list(settings.cache.rglob("error.json"))


def test_interrupted_run_goes_on_where_it_stopped(settings: Settings) -> None:
    class Interrupted(Recorder):
        def run_case(self, case: dict, settings: Settings) -> dict:
            if case["n"] == 2:
                raise KeyboardInterrupt
            return super().run_case(case, settings)

    with pytest.raises(KeyboardInterrupt):
        run(Interrupted().suite, settings, progress=False)
    after = Recorder()
    run(after.suite, settings, progress=False)
    assert after.calls == [2]


@pytest.mark.parametrize("change", [{"seed": 1}, {"quick": False}, {"data": Path("elsewhere")}])
def test_other_settings_share_no_result(settings: Settings, change: dict) -> None:
    run(Recorder().suite, settings, progress=False)
    again = Recorder()
    run(again.suite, Settings(**{**vars(settings), **change}), progress=False)
    assert again.calls == [0, 1, 2]


def test_half_written_result_is_run_again(settings: Settings) -> None:
    run(Recorder().suite, settings, progress=False)
    stored = sorted(settings.cache.rglob("result.json"))
    stored[0].write_text('{"n": 0, "sco')
    again = Recorder()
    run(again.suite, settings, progress=False)
    assert len(again.calls) == 1


def test_same_case_twice_is_a_defect_of_the_suite(settings: Settings) -> None:
    suite = Suite("twice", lambda s: [{"n": 1}, {"n": 1}], lambda c, s: {}, lambda c: {}, ())
    with pytest.raises(ValueError, match="twice"):
        run(suite, settings, progress=False)


def test_spawned_processes_use_one_thread_and_survive_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spawned_suite.py").write_text(SPAWNED)
    monkeypatch.syspath_prepend(tmp_path)
    suite = __import__("spawned_suite").SUITE
    try:
        result = run(suite, Settings(True, 0, None, tmp_path, jobs=2), progress=False)
    finally:
        sys.modules.pop("spawned_suite")
    outcomes = {case["n"]: case for case in result["cases"]}
    assert "died" in outcomes[2]["error"]
    assert all(outcomes[n]["threads"] == 1 for n in (0, 1, 3))
    assert result["summary"] == {"n_cases": 4, "n_failed": 1, "total": 0 + 1 + 9}


def test_table_shows_cases_errors_and_summary(settings: Settings) -> None:
    out = io.StringIO()
    console = Console(file=out, width=140)
    run(Recorder(failing={1}).suite, settings, console=console)
    shown = out.getvalue()
    assert "case 1 is broken" in shown
    assert "mean" in shown
    assert shown.count("bench toy") == 2  # the table and its summary, once each: no leftovers of the live one


def test_key_of_a_case_does_not_depend_on_the_order_of_its_keys(tmp_path: Path) -> None:
    records = Records(tmp_path, "toy", {"seed": 0})
    assert records.key({"a": 1, "b": math.pi}) == records.key({"b": math.pi, "a": 1})
    assert records.key({"a": 1}) != records.key({"a": 2})


def test_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHORTCUTSCOPE_CACHE", str(tmp_path))
    assert default_cache() == tmp_path / "bench"
    monkeypatch.delenv("SHORTCUTSCOPE_CACHE")
    assert default_cache().parts[-2:] == ("shortcutscope", "bench")


def test_rows_of_a_summary_are_a_table_with_intervals() -> None:
    console = Console(record=True, width=120)
    rows = [
        {"recipe": "erm", "auroc": {"mean": 0.5, "low": 0.25, "high": 0.75}},
        {"recipe": "oracle", "auroc": {"mean": 0.9, "low": None, "high": None}, "extra": 3},
    ]
    LiveTable("bench toy", (), 0, console).finish({"cases": [], "summary": {"n_cases": 0, "recipes": rows}})
    shown = console.export_text()
    assert "bench toy: recipes" in shown
    assert "0.5 (0.25 to 0.75)" in shown
    assert "extra" in shown
    assert "mean" not in shown
