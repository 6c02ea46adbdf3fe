"""The debiasing suites: which cases there are, how they sum up, and one small run."""

from __future__ import annotations

from pathlib import Path

import pytest

from shortcutscope.benchmarks.debias_data import make_cohort
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import debias, distillation
from shortcutscope.debias.recipes import RECIPES


def settings(cache: Path = Path("unused"), **changes) -> Settings:
    return Settings(**{"quick": False, "seed": 0, "data": None, "cache": cache, "jobs": 1, **changes})


def test_every_recipe_is_run_in_every_setting_that_it_depends_on() -> None:
    listed = debias.cases(settings())
    names = {case["recipe"] for case in listed}
    assert names == {*RECIPES, *debias.REFERENCES} - {"segmentation"}
    assert {(c["clean_fraction"], c["correlation"]) for c in listed} == {(0.1, 0.95)}
    full = debias.cases(settings(full=True))
    assert {c["seed"] for c in full} == {0, 1, 2}
    dfr = {(c["clean_fraction"], c["correlation"]) for c in full if c["recipe"] == "dfr"}
    assert dfr == {(f, r) for f in (0.02, 0.05, 0.1) for r in (0.95, 1.0)}
    without_clean = {c["clean_fraction"] for c in full if c["recipe"] == "group-dro"}
    assert without_clean == {0.1}
    assert not any(c["group_labels"] == "retrieved" and c["correlation"] == 1 for c in full)


def case(recipe: str, robust: float, worst: float, **changes) -> dict:
    made = {
        "task": "phantom",
        "kind": "tag",
        "clean_fraction": 0.1,
        "correlation": 0.95,
        "group_labels": "none",
    }
    metrics = {"robust_auroc": robust, "worst_group": worst, "gap_robust": robust, "gap_worst_group": worst}
    return {**made, "recipe": recipe, **metrics, **changes}


def test_bars_are_judged_by_the_recommended_recipe_alone() -> None:
    cases = [
        case("balanced-distillation", 0.9, 0.8, recommended=True, group_labels="truth"),
        case("balanced-distillation", 0.85, 0.79, group_labels="retrieved"),
        case("teacher", 0.91, 0.7),
        case("dfr", 0.8, 0.81),
        case("group-dro", 0.7, 0.5),
        case("lisa", 0.0, 0.0) | {"undefined": "without groups"},
    ]
    met = debias.summarize(cases)["met"]
    assert met == {
        "gap_robust of phantom tag": True,
        "gap_worst_group of phantom tag": True,
        "not below its teacher, phantom tag": False,
        "level with the best rival in robust_auroc": True,
        "retrieved groups, robust_auroc": False,
        "level with the best rival in worst_group": False,
        "retrieved groups, worst_group": True,
    }


def test_full_correlation_has_a_bar_of_its_own() -> None:
    cases = [case("audited-distillation", 0.72, 0.1, recommended=True, correlation=1.0, clean_fraction=0.02)]
    assert debias.summarize(cases)["met"] == {"full correlation, 2% clean, phantom tag": True}


def test_differences_are_paired_with_the_logits_of_the_same_setting() -> None:
    base = {"task": "phantom", "kind": "tag", **distillation.BASE, "labels": "plain"}

    def one(form: str, seed: int, robust: float) -> dict:
        return {**base, "form": form, "seed": seed, "robust_auroc": robust, "worst_group": robust}

    cases = [
        one("logits", 0, 0.5),
        one("logits", 1, 0.7),
        one("features, all", 0, 0.6),
        one("features, all", 1, 0.9),
    ]
    rows = {row["form"]: row for row in distillation.summarize(cases)["settings"]}
    assert rows["logits"]["robust_auroc_difference"]["mean"] == 0
    assert rows["features, all"]["robust_auroc_difference"]["mean"] == pytest.approx(0.15)


def test_every_setting_has_both_controls() -> None:
    for chosen in (settings(quick=True), settings(), settings(full=True)):
        listed = distillation.cases(chosen)
        forms: dict[tuple, set[str]] = {}
        for one in listed:
            key = tuple(v for k, v in one.items() if k != "form")
            forms.setdefault(key, set()).add(one["form"])
        assert all({"logits", "logits x 4"} <= found for found in forms.values())
        assert len({repr(one) for one in listed}) == len(listed)
        # Whoever begins as the teacher, and learns labels, may owe all to these.
        begun = [one for one in listed if one["student"] == "teacher"]
        without = [one for one in begun if one["form"] == "no teacher"]
        assert len(begun) == len(distillation.LAST) * len(without)
        assert all(one["labels"] != "none" for one in begun)
        assert all(one["labels"] != "none" for one in listed if one["form"] == "no teacher")


@pytest.mark.slow
def test_the_samples_of_a_world_are_apart_and_as_planted(tmp_path: Path) -> None:
    cohort = make_cohort("phantom", "tag", 0, 0.95, 0.02, settings(tmp_path))
    parts = (cohort.biased, cohort.clean, cohort.audited, cohort.test)
    ids = [set(table.frame["sample_id"]) for table in parts]
    assert sum(map(len, ids)) == len(set().union(*ids))
    trained, held = ids[0] | ids[1], ids[2] | ids[3]
    assert not trained & held
    assert len(cohort.clean) == 32
    assert len(cohort.biased) == 1440
    shares = cohort.biased.frame.groupby("label")["tag"].mean()
    assert shares.to_list() == pytest.approx([0.05, 0.95])
    for table in (cohort.clean, cohort.unbiased, cohort.test):
        assert table.frame.groupby("label")["tag"].mean().to_list() == pytest.approx([0.5, 0.5], abs=0.01)
    larger = make_cohort("phantom", "tag", 0, 0.95, 0.1, settings(tmp_path))
    assert set(cohort.clean.frame["sample_id"]) <= set(larger.clean.frame["sample_id"])
    assert set(cohort.biased.frame["sample_id"]) == set(larger.biased.frame["sample_id"])


@pytest.mark.slow
def test_a_teacher_is_judged_in_the_quick_suite(tmp_path: Path) -> None:
    chosen = settings(tmp_path, quick=True)
    cases = [c for c in debias.cases(chosen) if c["recipe"] in ("erm", "oracle", "teacher", "dfr")]
    ran = [{**c, **debias.run_case(c, chosen)} for c in cases]
    found = {c["recipe"]: c for c in ran}
    assert found["oracle"]["gap_robust"] == pytest.approx(1)
    assert found["erm"]["gap_robust"] == pytest.approx(0)
    assert found["oracle"]["robust_auroc"] > found["erm"]["robust_auroc"] + 0.1
    assert found["teacher"]["gap_robust"] > 0.5
