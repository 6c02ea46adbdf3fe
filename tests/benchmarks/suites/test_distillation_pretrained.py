"""Distillation between pretrained networks: the cases, what is paired with what, and one run of thin ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shortcutscope.benchmarks import pretrained_networks
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import distillation_pretrained as suite


def settings(cache: Path = Path("unused"), **changes) -> Settings:
    return Settings(**{"quick": False, "seed": 0, "data": None, "cache": cache, "jobs": 1, **changes})


@pytest.mark.parametrize("size", [{"quick": True}, {}, {"full": True}])
def test_every_setting_has_both_controls_and_one_without_a_teacher(size: dict[str, bool]) -> None:
    listed = suite.cases(settings(**size))
    assert len({repr(one) for one in listed}) == len(listed)
    forms: dict[tuple, set[str]] = {}
    for one in listed:
        key = (*(v for k, v in one.items() if k not in ("form", "teacher")), one["teacher"])
        forms.setdefault(key, set()).add(one["form"])
    by_teacher = {key: those for key, those in forms.items() if key[-1] and key[-2]}
    assert all({*suite.CONTROLS, "relevant, audit"} <= those for those in by_teacher.values())
    assert all(forms[(*key[:-1], None)] == {suite.WITHOUT} for key in by_teacher)


def test_a_setting_has_six_networks_of_an_architecture() -> None:
    listed = suite.cases(settings())
    probes = [one for one in listed if one["form"] == "probes, all" and one["network"] == "resnet18"]
    for labels, teacher in {(one["labels"], one["teacher"]) for one in probes}:
        those = [one for one in probes if (one["labels"], one["teacher"]) == (labels, teacher)]
        assert {(one["kind"], one["seed"]) for one in those} == {
            (kind, seed) for kind in pretrained_networks.KINDS for seed in (0, 1)
        }
    assert len(listed) == 2 * 6 * (1 + 2 + 2 * (1 + 2 * len(suite.COMPARED)))
    # One architecture is whole before the next begins.
    assert [one["network"] for one in listed] == sorted(one["network"] for one in listed)


def student(form: str, robust: float, *, kind: str = "tag", teacher: str | None = "clean", **changes) -> dict:
    about = {"task": "pneumonia", "network": "resnet18", "kind": kind, "seed": 0, "labels": "plain"}
    metrics = dict.fromkeys(suite.METRICS, robust)
    return {**about, "teacher": teacher, "form": form, **metrics, **changes}


def test_differences_are_paired_within_a_network_and_setting() -> None:
    cases = [
        student("biased network", 0.4, teacher=None, labels=None),
        student("logits", 0.5),
        student("logits", 0.7, kind="noise"),
        student("logits x 4", 0.55),
        student("probes, all", 0.6),
        student("probes, all", 0.9, kind="noise"),
        student("no teacher", 0.3, teacher=None),
        student("logits", 0.9, teacher="unbiased"),
    ]
    summary = suite.summarize(cases)
    rows = {(row["teacher"], row["form"]): row for row in summary["settings"]}
    assert rows["clean", "logits"]["against"]["logits"]["robust_auroc"]["mean"] == 0
    probes = rows["clean", "probes, all"]
    assert probes["cases"] == 2
    assert probes["against"]["logits"]["robust_auroc"]["mean"] == pytest.approx(0.15)
    assert probes["against"]["logits x 4"]["robust_auroc"]["mean"] == pytest.approx(0.05)
    # What learns without a teacher is held against either teacher's students.
    without = [rows[teacher, "no teacher"]["against"]["logits"]["robust_auroc"] for teacher in suite.TEACHERS]
    assert [figures["mean"] for figures in without] == pytest.approx([-0.2, -0.6])
    (biased,) = summary["beside"]
    assert (biased["form"], biased["cases"], biased["robust_auroc"]["mean"]) == ("biased network", 1, 0.4)
    assert [axes.get_title(loc="left") for axes in suite.draw(cases).axes] == [
        "teacher: clean",
        "teacher: unbiased",
    ]


@pytest.mark.slow
def test_students_begin_as_the_biased_network_and_learn_from_teachers_without_bias(
    thin: None, tmp_path: Path
) -> None:
    chosen = settings(tmp_path, quick=True)
    ran = {one["form"]: {**one, **suite.run_case(one, chosen)} for one in suite.cases(chosen)}
    assert set(ran) == {suite.BIASED, suite.TEACHER, suite.WITHOUT, *suite.QUICK}
    assert ran["relevant, audit"]["layers"]
    assert not ran["logits"]["layers"]
    assert len({one["robust_auroc"] for one in ran.values()}) > 2
    assert suite.summarize(list(ran.values()))["settings"]


@pytest.mark.slow
def test_a_teacher_is_the_pretrained_network_on_clean_samples_or_the_reference(
    thin: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(tmp_path, quick=True)
    store = pretrained_networks.store_of(suite.cases(chosen)[0], chosen)
    trained_on = []
    training = pretrained_networks.train_teacher

    def watched(problem, **options):
        trained_on.append(problem)
        return training(problem, **options)

    monkeypatch.setattr(pretrained_networks, "train_teacher", watched)
    specialist, reference = store.specialist("clean"), store.specialist("unbiased")
    (problem,) = trained_on
    pretrained, begun = store.pretrained().state_dict(), problem.model.state_dict()
    assert all(torch.equal(pretrained[name], begun[name]) for name in pretrained)
    assert specialist.n_clean == len(store.cohort.clean) == 20
    assert reference.n_clean == len(store.cohort.unbiased)
    oracle = store.oracle().state_dict()
    assert all(torch.equal(value, oracle[name]) for name, value in reference.model.state_dict().items())
    assert specialist.judged is not None
    assert reference.judged is not None
    store.specialist("clean")  # kept: it is not trained again
    assert len(trained_on) == 1
