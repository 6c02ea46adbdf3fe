"""The planted suites: what they list, how they sum up, and one real case of each (slow)."""

from pathlib import Path

import numpy as np
import pytest

from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import extent, nulls
from shortcutscope.planting.artifacts import CATALOGUE


def settings(tmp_path: Path, quick: bool = False) -> Settings:
    return Settings(quick=quick, seed=0, data=None, cache=tmp_path, jobs=1)


def test_extent_lists_every_kind_on_both_tasks_and_enough_models(tmp_path):
    listed = extent.cases(settings(tmp_path))
    truth = [c for c in listed if c["source"] == "truth" and c["group"] != "null"]
    assert {c["kind"] for c in truth} == set(CATALOGUE)
    assert len(truth) >= 40
    assert {c["task"] for c in truth} == {"phantom", "phantom-faint"}
    assert {c["group"] for c in listed} == {"localized", "diffuse", "borderline", "null"}
    assert len({tuple(c.values()) for c in listed}) == len(listed)
    assert len(extent.cases(settings(tmp_path, quick=True))) < 15


def test_nulls_lists_enough_models_and_concepts(tmp_path):
    listed = nulls.cases(settings(tmp_path))
    assert sum(c["group"] == "clean" for c in listed) >= 20
    assert sum(c["group"] == "encoded_unused" for c in listed) >= 20
    assert len(nulls.PREVALENCES) * nulls.RANDOM_PER_PREVALENCE + 3 >= 20


def test_extent_summary_counts_every_case():
    base = {"task": "phantom", "seed": 0, "source": "truth", "called": "shortcut"}
    finished = [
        {**base, "kind": "tag", "group": "localized", "verdict": "localized"},
        {**base, "kind": "tag", "group": "localized", "verdict": "diffuse"},
        {**base, "kind": "noise", "group": "diffuse", "verdict": "undetermined"},
        {**base, "kind": "blur", "group": "diffuse", "verdict": "diffuse"},
        {**base, "kind": "frame", "group": "borderline", "verdict": "undetermined"},
        {**base, "kind": "random half", "group": "null", "verdict": "localized", "called": "not encoded"},
    ]
    summary = extent.summarize(finished)["truth"]
    assert summary["right"] == 0.5
    assert summary["undetermined"] == 0.25
    assert summary["wrong"] == 0.25
    assert summary["wrong_unmistakable"] == 1
    assert summary["borderline_and_null_undetermined"] == 0.5


def test_nulls_summary_tests_uniformity_and_counts_accused_models():
    p = np.linspace(0.005, 0.995, 100)
    clean = [
        {
            "group": "clean",
            "called_shortcut": ["a"] if k == 0 else [],
            "called_used": [],
            "called_encoded": [],
            "concepts": 50,
            "p_values": {f"c{i}": v for i, v in enumerate(p[k::2])},
        }
        for k in range(2)
    ]
    summary = nulls.summarize(clean)
    assert summary["clean"]["any_called_shortcut"] == 0.5
    assert summary["null_p_values"]["count"] == 100
    assert summary["null_p_values"]["ks_p"] > 0.9
    skewed = [{**c, "p_values": {k: v**3 for k, v in c["p_values"].items()}} for c in clean]
    assert nulls.summarize(skewed)["null_p_values"]["ks_p"] < 0.01


def test_the_real_task_is_taken_where_its_file_lies(tmp_path, shared_data):
    assert tasks(settings(tmp_path)) == ("phantom-faint", "phantom")
    there = Settings(quick=False, seed=0, data=shared_data, cache=tmp_path, jobs=1)
    assert tasks(there) == ("pneumonia", "phantom")


@pytest.mark.slow
def test_a_recipe_gives_the_same_model_from_the_cache_and_apart_patients(tmp_path):
    recipe = Recipe("phantom", ("tag",), seed=1, n_train=400, epochs=1)
    first = make_case(recipe, settings(tmp_path), n_held_out=200)
    again = make_case(recipe, settings(tmp_path), n_held_out=200)
    assert not set(first.train.frame["group"]) & set(first.held_out.frame["group"])
    assert first.train.frame["label"].mean() == pytest.approx(0.5)
    for a, b in zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert a.equal(b)


@pytest.mark.slow
@pytest.mark.parametrize("suite", [extent, nulls])
def test_quick_cases_run(tmp_path, suite):
    chosen = settings(tmp_path, quick=True)
    case = suite.cases(chosen)[0]
    result = suite.run_case(case, chosen)
    assert {"verdict", "statistic"} <= set(result) or {"called_shortcut", "p_values"} <= set(result)
