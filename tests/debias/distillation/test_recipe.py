"""Distillation: what is learnt from, what is refused, and what the result says."""

from __future__ import annotations

import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from shortcutscope.debias.distillation.loss import Distill, cache_bytes, teacher_outputs
from shortcutscope.debias.distillation.matching import kl, pair_layers
from shortcutscope.debias.distillation.options import Distillation, select_layers, student_layers
from shortcutscope.debias.distillation.recipe import distil, judge
from shortcutscope.debias.gate import TeacherGate
from shortcutscope.debias.objective import Batch
from shortcutscope.debias.teacher import Ensemble, Teacher, fit_probes
from shortcutscope.errors import InputError
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.models.layers import find_layers
from shortcutscope.planting.thin import ThinResNet

FORMS = [None, "probes", "features", "attention", "cka"]


@pytest.fixture
def teacher(small_network) -> nn.Module:
    return small_network(11).eval()


def batch_of(problem, rows: list[int]) -> Batch:
    images = torch.stack([problem.train[row][0] for row in rows])
    labels = torch.as_tensor(problem.train.frame["label"].to_numpy()[rows])
    return Batch(images, labels, torch.as_tensor(rows))


def loss_of(problem, teacher, options: Distillation, *, cached: bool = False) -> Distill:
    example = problem.example(16)
    layers = find_layers(problem.network(), example)
    weights, _ = select_layers(layers, options, problem.layers)
    pairs = pair_layers(layers, find_layers(teacher, example), weights) if weights else []
    probes = (
        fit_probes(teacher, problem.clean, [p.teacher for p in pairs]) if options.form == "probes" else None
    )
    kept = teacher_outputs(teacher, problem.train, pairs, options, probes, progress=False) if cached else None
    return Distill(teacher, pairs, options, probes=probes, example=example, cached=kept)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_a_student_and_leaves_model_and_teacher_alone(problem, teacher, form) -> None:
    before = model_fingerprint(problem.model), model_fingerprint(teacher)
    outcome = distil(problem, teacher=teacher, form=form, layers="uniform")
    assert (model_fingerprint(problem.model), model_fingerprint(teacher)) == before
    assert model_fingerprint(outcome.model) != model_fingerprint(problem.network())
    assert outcome.steps == 2
    assert not any(module._forward_hooks for module in (*outcome.model.modules(), *teacher.modules()))
    assert outcome.details["form"] == form


@pytest.mark.parametrize("form", FORMS)
def test_kept_outputs_of_the_teacher_give_the_loss_of_running_it(problem, teacher, form) -> None:
    options = Distillation(form=form, layers="uniform")
    student, batch = problem.network().eval(), batch_of(problem, [3, 1, 40])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        live = loss_of(problem, teacher, options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = loss_of(problem, teacher, options, cached=True)
    assert live.allows_augmentation
    assert not kept.allows_augmentation
    with torch.no_grad():
        expected, found = live.terms(student, batch), kept.terms(student, batch)
    for name, term in expected.items():
        assert float(found[name]) == pytest.approx(float(term), rel=2e-2, abs=1e-4), name


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_its_features(problem, teacher) -> None:
    loss = loss_of(problem, teacher, Distillation(form="features"))
    with torch.no_grad():
        terms = loss.terms(teacher, batch_of(problem, [0, 1]))
    assert set(terms) == {"kl", "blocks.0", "blocks.1"}
    assert all(abs(float(term)) < 1e-6 for term in terms.values())


def test_the_terms_carry_their_weights(problem, teacher) -> None:
    student, batch = problem.network().eval(), batch_of(problem, [5, 6, 7, 8])
    options = Distillation(form="cka", labels="plain", label_weight=2.0, logit_weight=3.0, layer_weight=4.0)
    plain = options.but(label_weight=1.0, logit_weight=1.0, layer_weight=1.0)
    losses = [loss_of(problem, teacher, chosen) for chosen in (options, plain)]
    with torch.no_grad():
        heavy, light = (loss.terms(student, batch) for loss in losses)
    ratios = {name: float(heavy[name] / light[name]) for name in light}
    assert ratios == pytest.approx({"ce": 2, "kl": 3, "blocks.0": 4, "blocks.1": 4})
    with torch.no_grad():
        expected = kl(student(batch.images), teacher(batch.images), options.temperature)
    assert float(light["kl"]) == pytest.approx(float(expected), rel=1e-5)


def test_without_labels_the_biased_labels_never_reach_the_student(problem, teacher) -> None:
    flipped = problem.train.with_columns(label=1 - problem.train.frame["label"].to_numpy())
    given = distil(problem, teacher=teacher, labels="none").model.state_dict()
    other = distil(replace(problem, train=flipped), teacher=teacher, labels="none").model.state_dict()
    assert all(torch.equal(given[name], other[name]) for name in given)


def test_a_narrow_student_learns_from_a_wide_teacher(problem) -> None:
    wide = ThinResNet(width=12, blocks=(1, 1, 1)).eval()
    outcome = distil(problem, teacher=wide, form="features", layers="uniform")
    assert set(outcome.details["layers"]) == {"stem.2", "blocks.0", "blocks.1"}


def test_group_balanced_labels_need_every_group(problem) -> None:
    labels = problem.train.frame["label"].to_numpy()
    whole = replace(problem, carries=labels.astype(float))
    with pytest.raises(InputError, match="label 0 with the concept"):
        distil(whole, labels="group-balanced")


def test_the_difference_along_the_shortcut_needs_carriers(problem, teacher) -> None:
    with pytest.raises(InputError, match="carries="):
        distil(replace(problem, carries=None), teacher=teacher, along=0.0)
    outcome = distil(problem, teacher=teacher, along=0.0)
    assert outcome.steps == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"form": "maps"}, "form='maps'"),
        ({"labels": "soft"}, "labels='soft'"),
        ({"temperature": 0.0}, "temperature"),
        ({"layer_weight": -1.0}, "0 or more"),
        ({"form": None, "logit_weight": 0.0}, "nothing is left to learn from"),
        ({"layers": ["blocks.7"]}, "blocks.7"),
        ({"layers": "best"}, "layers='best'"),
        ({"layers": {"blocks.0": 0.0}}, "not all be 0"),
    ],
)
def test_options_out_of_range_are_refused_before_any_training(problem, changes, said) -> None:
    with pytest.raises(InputError, match=said):
        distil(problem, **changes)


def test_layers_of_an_audit_need_one(problem) -> None:
    with pytest.raises(InputError, match="needs the layers that an audit chose"):
        distil(replace(problem, layers=None))
    with pytest.raises(InputError, match=r"'layer4'.*the student lacks"):
        distil(replace(problem, layers={"layer4": 1.0}))


def test_a_teacher_of_other_classes_is_refused(problem) -> None:
    with pytest.raises(InputError, match="3 logits and the student 2"):
        distil(problem, teacher=ThinResNet(width=4, blocks=(1,), num_classes=3))


def test_no_clean_samples_are_refused(problem, tables) -> None:
    with pytest.raises(InputError, match="no clean samples"):
        distil(replace(problem, clean=None))
    negatives = tables["clean"].where(label=0)
    with pytest.raises(InputError, match="class 1 has 0 clean samples"):
        distil(replace(problem, clean=negatives))


def test_layers_at_which_the_teacher_uses_the_shortcut_are_left_out(problem, teacher, monkeypatch) -> None:
    judged_gate(monkeypatch, {"stem.2": True, "blocks.0": False, "blocks.1": True})
    outcome = distil(problem, teacher=teacher)
    assert outcome.details["layers"] == {"blocks.1": 1.0}
    assert any("left out" in note for note in outcome.notes)


def test_a_teacher_that_uses_the_shortcut_everywhere_is_refused(problem, teacher, monkeypatch) -> None:
    judged_gate(monkeypatch, dict.fromkeys(("stem.2", "blocks.0", "blocks.1"), False))
    with pytest.raises(InputError, match="uses the shortcut at every layer"):
        distil(problem, teacher=teacher)
    outcome = distil(problem, teacher=teacher, on_shortcut="warn")
    assert outcome.details["form"] is None
    assert any("the logits alone" in note for note in outcome.notes)


def judged_gate(monkeypatch: pytest.MonkeyPatch, passes: dict[str, bool]) -> None:
    frame = pd.DataFrame({"layer": list(passes), "use": 0.5, "passes": list(passes.values())})
    module = importlib.import_module("shortcutscope.debias.distillation.recipe")
    monkeypatch.setattr(module, "judge", lambda *_: TeacherGate(frame, "encoded and used", 0.5))


def test_nothing_is_judged_without_samples_to_judge_on(problem, teacher) -> None:
    assert judge(teacher, problem) is None
    assert any("was not judged" in note for note in distil(problem, teacher=teacher).notes)


def test_several_teachers_can_be_distilled_by_their_logits_alone(problem, small_network) -> None:
    models = [small_network(seed).eval() for seed in (1, 2)]
    together = Ensemble(models).eval()
    x = problem.example(4)
    with torch.no_grad():
        expected = torch.stack([m(x).log_softmax(1) for m in models]).mean(0)
        torch.testing.assert_close(together(x), expected)
    assert distil(problem, teacher=Teacher(together), form=None).steps == 2
    with pytest.raises(InputError, match="several teachers"):
        distil(problem, teacher=Teacher(together))


def test_kept_outputs_and_augmentation_exclude_each_other(problem, teacher) -> None:
    shifted = replace(problem, training=problem.training.but(augmentation="shifts"))
    with pytest.raises(InputError, match="cache=True"):
        distil(shifted, teacher=teacher, cache=True)
    assert not any("once and kept" in note for note in distil(shifted, teacher=teacher).notes)
    assert any("once and kept" in note for note in distil(problem, teacher=teacher).notes)


def test_what_would_be_kept_is_what_is_kept(problem, teacher) -> None:
    layers = student_layers(problem.network(), problem.example(), Distillation())
    pairs = pair_layers(layers, layers, {"blocks.0": 1.0, "blocks.1": 1.0})
    options = Distillation(form="features")
    kept = teacher_outputs(teacher, problem.train, pairs, options, progress=False)
    size = sum(values.numel() * values.element_size() for values in kept.layers)
    assert size == cache_bytes(len(problem.train), pairs, options)


def test_a_student_that_starts_from_the_model_is_a_copy_of_it(problem, teacher) -> None:
    before = model_fingerprint(problem.model)
    outcome = distil(replace(problem, start="model"), teacher=teacher)
    assert model_fingerprint(problem.model) == before
    moved = [
        float((a - b).detach().abs().max())
        for a, b in zip(outcome.model.parameters(), problem.model.parameters(), strict=True)
    ]
    assert 0 < max(moved) < 0.1
    assert np.isfinite(moved).all()
