"""The suite of several labels: what is planted where, and how that is summed up."""

from __future__ import annotations

from pathlib import Path

import pytest

from shortcutscope.benchmarks.label_networks import LabelPlan
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import labels
from shortcutscope.planting.phantoms.findings import FINDINGS


def test_every_network_has_planted_pairs_of_its_own():
    settings = Settings(quick=False, seed=3, data=None, cache=Path(), jobs=1)
    cases = labels.cases(settings)
    assert len([c for c in cases if c["group"] == "named"]) == 12
    for case in cases:
        plan = LabelPlan(case["seed"], case["spread"])
        guilty = plan.guilty()
        assert {concept for concept, _ in guilty} == {"tag", "noise", plan.off_target[0]}
        assert {output for _, output in guilty} <= set(FINDINGS)
        assert not plan.unclear() & set(guilty)
        assert plan.tagged not in plan.noisy
        assert plan.tagged not in plan.off_target


def test_the_summary_counts_planted_and_innocent_pairs():
    def case(verdict, accused):
        planted = [{"what": "tag, one", "verdict": verdict}, {"what": "off-target", "verdict": "shortcut"}]
        return {"group": "named", "planted": planted, "innocent": 100, "accused": accused}

    summary = labels.summarize(
        [
            case("shortcut", []),
            case("not encoded", [["coin", "Mass"]]),
            {"group": "cost", "ratio": 2.0},
            {**case("shortcut", []), "group": "discovered"},
        ]
    )
    assert summary["discovered"] == {"networks": 1, "pairs": 2, "named": 1.0, "accused": 0}
    assert summary["tag, one"] == {"pairs": 2, "named": 0.5}
    assert summary["off-target"]["named"] == 1
    assert summary["innocent"] == {"pairs": 200, "accused": 1, "share": pytest.approx(0.005)}
    assert summary["networks_with_one_accused"] == 0.5
    assert summary["cost_ratio"] == 2


@pytest.mark.slow
def test_planted_pairs_are_named_and_innocent_ones_are_not(tmp_path):
    settings = Settings(quick=True, seed=0, data=None, cache=tmp_path, jobs=1)
    found = labels.run_case(labels.cases(settings)[0], settings)
    assert found["outputs"] == 14
    assert {pair["verdict"] for pair in found["planted"]} == {"shortcut"}
    assert len(found["accused"]) <= 0.05 * found["innocent"]
