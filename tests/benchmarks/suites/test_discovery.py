"""The discovery suite: what it lists, how it sums up, and one real case (slow)."""

from pathlib import Path

import pytest

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import discovery
from shortcutscope.planting.artifacts import CATALOGUE


def settings(tmp_path: Path, quick: bool = False) -> Settings:
    return Settings(quick=quick, seed=0, data=None, cache=tmp_path, jobs=1)


def test_every_kind_has_three_seeds_and_there_are_twenty_unbiased_models(tmp_path):
    listed = discovery.cases(settings(tmp_path))
    strong = [c for c in listed if c["correlation"] == 0.95 and len(c["kinds"]) == 1]
    for kind in CATALOGUE:
        own = [c for c in strong if c["kinds"] == [kind]]
        assert len({c["seed"] for c in own}) == 3
        assert len({c["task"] for c in own}) == 2
    assert {c["kinds"][0] for c in listed if c["correlation"] == 0.8} == set(CATALOGUE)
    assert sum(not c["kinds"] for c in listed) >= 20
    assert any(len(c["kinds"]) == 2 for c in listed)
    assert len({str(c) for c in listed}) == len(listed)
    assert len(discovery.cases(settings(tmp_path, quick=True))) < 15


def test_the_summary_counts_every_case():
    base = {"task": "phantom", "seed": 0, "correlation": 0.95, "survived": 1, "found_apart": None}
    base |= {"survived_auroc": 0.95}
    base |= {"proposed": 2, "strengths": [0.5], "logit_auroc": 0.8}
    finished = [
        {**base, "kinds": ["tag"], "first_auroc": 0.95, "best_of_three_auroc": 0.95},
        {**base, "kinds": ["noise"], "first_auroc": 0.6, "best_of_three_auroc": 0.92},
        {**base, "kinds": ["tube"], "first_auroc": 0.5, "best_of_three_auroc": 0.7},
        {
            **base, "kinds": ["tag", "noise"], "first_auroc": 1.0, "best_of_three_auroc": 0.95,
            "found_apart": True,
        },
        {
            **base, "kinds": [], "correlation": None, "first_auroc": None, "best_of_three_auroc": None,
            "logit_auroc": None, "strengths": [0.02], "survived": 0,
        },
    ]  # fmt: skip
    summary = discovery.summarize(finished)
    assert summary["0.95"]["models"] == 3
    assert summary["0.95"]["first"] == pytest.approx(1 / 3)
    assert summary["0.95"]["within_three"] == pytest.approx(2 / 3)
    assert summary["0.95"]["not_below_logit"] == pytest.approx(2 / 3)
    assert summary["0.95"]["kinds_never_found"] == ["tube"]
    assert summary["two_at_once"]["found_apart"] == 1
    assert summary["unbiased"]["largest_strength"] == 0.02
    assert summary["unbiased"]["any_survived"] == 0
    assert summary["0.95"]["survived"] == 1


@pytest.mark.slow
def test_a_planted_kind_is_proposed_first(tmp_path):
    case = {"task": "phantom", "kinds": ["noise"], "seed": 50, "correlation": 0.95}
    result = discovery.run_case(case, settings(tmp_path))
    assert result["first_auroc"] > 0.9
    assert result["survived"] == 1
    assert result["survived_auroc"] > 0.9
