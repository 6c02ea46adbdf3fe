"""The suite of circuits: what it lists, how it sums up, and one real case (slow)."""

from pathlib import Path

import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import circuits
from shortcutscope.discover.circuits.ablation import Effect
from shortcutscope.planting.artifacts import CATALOGUE


def settings(tmp_path: Path, quick: bool = False) -> Settings:
    return Settings(quick=quick, seed=0, data=None, cache=tmp_path, jobs=1)


def test_every_localized_and_diffuse_kind_is_listed(tmp_path):
    listed = circuits.cases(settings(tmp_path))
    expected = {kind for kind, artifact in CATALOGUE.items() if artifact.extent != "borderline"}
    assert {c["kind"] for c in listed if c["seed"] == 0} == expected
    for seed in (0, 1):
        assert len({c["task"] for c in listed if c["seed"] == seed}) == 2
    assert len([c for c in listed if c["seed"] == 1]) >= len(expected) // 2
    assert len({str(c) for c in listed}) == len(listed)
    assert len(circuits.cases(settings(tmp_path, quick=True))) == 4


def case(kind, met, gap=0.4, **changes):
    figures = {f"removed{s}": v for s, v in (("", 0.8), ("_random", 0.1), ("_magnitude", None))}
    flags = {"met": met, "met_random": False, "met_magnitude": False, "beats_others": True}
    return {
        "task": "phantom", "kind": kind, "seed": 0, "gap": gap, "balanced_drop": 0.01, "share": 0.5,
        **figures, **flags, **changes,
    }  # fmt: skip


def test_the_summary_counts_cases_with_and_without_those_that_were_not_taken_up():
    finished = [case("tag", True), case("noise", True), case("blur", False, gap=0.01)]
    summary = circuits.summarize(finished)
    assert summary["all"]["met"] == pytest.approx(2 / 3)
    assert summary["taken_up"] == {**summary["taken_up"], "cases": 2, "met": 1.0, "not_met": []}
    assert summary["all"]["not_met"] == ["phantom blur 0"]
    assert summary["all"]["removed_magnitude"] is None
    assert not summary["reached"]
    assert circuits.summarize(finished[:2])["reached"]
    assert circuits.summarize([])["all"] == {"cases": 0}


def test_a_case_is_met_with_both_figures():
    def effect(after, balanced):
        return Effect(3, 0.5, after, 0.8, balanced, 0.7)

    assert circuits.is_met(effect(0.19, 0.76))
    assert not circuits.is_met(effect(0.21, 0.76))
    assert not circuits.is_met(effect(-0.21, 0.76))
    assert not circuits.is_met(effect(0.1, 0.74))
    assert not circuits.is_met(Effect(3, 0.01, 0.0, 0.8, 0.8, 0.8))


@pytest.mark.slow
def test_a_planted_kind_is_taken_out(tmp_path):
    result = circuits.run_case({"task": "phantom", "kind": "patch", "seed": 50}, settings(tmp_path))
    assert result["met"]
    assert result["beats_others"]
