"""The suite of tests on the pixels: what it lists, how it sums up, and one network from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import pixels


def settings(tmp_path: Path, *, quick: bool = True) -> Settings:
    return Settings(quick=quick, seed=0, data=None, cache=tmp_path, jobs=1)


def finished(case: dict[str, object], word: str) -> dict[str, object]:
    used = case["regime"] == "used"
    both = {
        "measured_effect": 1.0 + used,
        "true_effect": 1.1 + used,
        "measured_flips": 0.1,
        "true_flips": 0.1,
    }
    return {**case, "word": word, "relied_on": 2.0 if used else 0.1, "directions": {"with": both}}


def test_forty_networks_are_listed_once(tmp_path):
    cases = pixels.cases(settings(tmp_path, quick=False))
    assert len({(c["task"], c["kind"], c["regime"] == "used") for c in cases}) == 40
    assert len({tuple(c.values()) for c in cases}) == len(cases)
    assert len(pixels.cases(settings(tmp_path))) == 8


def test_the_summary_holds_the_bars(tmp_path):
    cases = pixels.cases(settings(tmp_path))
    right = [finished(c, "confirmed" if c["regime"] == "used" else "not confirmed") for c in cases]
    for k, case in enumerate(right):
        both = case["directions"]["with"]
        both["measured_flips"] = both["true_flips"] = k / 10
    assert pixels.summarize(right)["bars_met"]
    assert pixels.summarize(right)["relied_on"] == {"networks": 4, "confirmed": 4}
    assert not pixels.summarize([{**c, "word": "confirmed"} for c in right])["bars_met"]
    assert not pixels.summarize([{**c, "word": "not confirmed"} for c in right])["bars_met"]


@pytest.mark.slow
def test_a_planted_tag_is_confirmed_as_its_twin_says(tmp_path):
    case = {"task": "phantom", "kind": "tag", "regime": "used", "masks": "exact", "seed": 0}
    result = pixels.run_case(case, settings(tmp_path))
    assert result["word"] == "confirmed"
    for direction in result["directions"].values():
        assert direction["per_image"] > 0.5
        assert abs(direction["measured_effect"] - direction["true_effect"]) < 0.5
