"""The specialist teacher and its gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from shortcutscope.debias.distillation.matching import pooled
from shortcutscope.debias.gate import TeacherGate, gate
from shortcutscope.debias.objective import forward_with_layers
from shortcutscope.debias.teacher import (
    MIN_STEPS,
    fit_probes,
    learning_curve,
    pooled_features,
    teacher_training,
    train_teacher,
)
from shortcutscope.debias.training.fit import Training
from shortcutscope.errors import InputError
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.models.layers import find_layers

SHORT = Training(steps=3, batch_size=8, augmentation="none", precision="fp32")


def test_few_samples_are_seen_often_and_augmented_strongly() -> None:
    few, many = (teacher_training(n, Training(seed=4)) for n in (32, 1600))
    assert (few.n_steps(32), few.augmentation, few.batch_size) == (MIN_STEPS, "strong", 16)
    assert (many.n_steps(1600), many.augmentation) == (1200, "shifts")
    assert few.seed == 5


@pytest.mark.parametrize("start", ["model", "fresh"])
def test_a_teacher_is_trained_on_the_clean_samples_alone(problem, start) -> None:
    before = model_fingerprint(problem.model)
    teacher = train_teacher(problem, start=start, training=SHORT)
    assert teacher.n_clean == 32
    assert teacher.start == start
    assert not any(p.requires_grad for p in teacher.model.parameters())
    assert not teacher.model.training
    assert model_fingerprint(problem.model) == before != model_fingerprint(teacher.model)


def test_the_head_can_be_fitted_first(problem) -> None:
    plain = train_teacher(problem, training=SHORT)
    probed = train_teacher(problem, training=SHORT, schedule="probe-then-fine-tune")
    assert any("last layer was fitted first" in note for note in probed.notes)
    assert model_fingerprint(plain.model) != model_fingerprint(probed.model)
    with pytest.raises(InputError, match="schedule="):
        train_teacher(problem, schedule="warm")


def test_probes_read_the_frozen_network_and_are_logistic_regressions(problem) -> None:
    model, clean = problem.model, problem.clean
    (layer,) = find_layers(model, problem.example(), ["blocks.1"])
    probe = fit_probes(model, clean, [layer])["blocks.1"]
    assert not any(p.requires_grad for p in probe.parameters())
    features = pooled_features(model, clean, [layer])["blocks.1"]
    labels = clean.frame["label"].to_numpy()
    read = probe(torch.as_tensor(features, dtype=torch.float32)).numpy()
    margins = read[:, 1] - read[:, 0]
    mean, spread = features.mean(0), features.std(0)
    spread = spread + 1e-4 * spread.max()
    fitted = [
        LogisticRegression(C=c, max_iter=500).fit((features - mean) / spread, labels)
        for c in (1e-3, 1e-2, 1e-1, 1.0)
    ]
    distances = [np.abs(f.decision_function((features - mean) / spread) - margins).max() for f in fitted]
    assert min(distances) < 0.02


def test_features_are_those_of_the_network(problem) -> None:
    layers = find_layers(problem.model, problem.example())
    with torch.no_grad():
        images = torch.stack([problem.clean[i][0] for i in range(len(problem.clean))])
        _, seen = forward_with_layers(problem.model, images, layers)
    for name, values in pooled_features(problem.model, problem.clean, layers, batch_size=5).items():
        np.testing.assert_allclose(values, pooled(seen[name]).numpy(), atol=1e-5)


def test_a_learning_curve_grows_with_the_clean_samples(problem) -> None:
    frame = learning_curve(problem, sizes=(0.5, 1.0), repeats=2, training=SHORT)
    assert list(frame.columns) == ["n_clean", "repeat", "auroc"]
    assert frame.groupby("repeat")["n_clean"].apply(lambda sizes: sizes.is_monotonic_increasing).all()
    assert frame["auroc"].between(0, 1).all()
    with pytest.raises(InputError, match="too few"):
        learning_curve(replace(problem, clean=problem.clean.take([0, 1, 2, 3, 4, 5])), sizes=(0.1,))


def gate_of(passes: list[bool]) -> TeacherGate:
    names = [f"blocks.{k}" for k in range(len(passes))]
    return TeacherGate(pd.DataFrame({"layer": names, "use": 0.1, "passes": passes}), "shortcut", 0.4)


def test_a_gate_takes_away_the_weight_of_layers_that_do_not_pass() -> None:
    assert gate_of([True, False, True]).weigh({"blocks.0": 0.2, "blocks.1": 0.4, "blocks.2": 0.4}) == (
        pytest.approx({"blocks.0": 1 / 3, "blocks.2": 2 / 3})
    )
    assert gate_of([False, False]).weigh({"blocks.0": 1.0}) == {}
    assert not gate_of([False, False]).passed
    assert "every layer" in gate_of([False, False]).reason
    assert "1 of 2 layers" in gate_of([True, False]).reason


def test_a_network_that_learnt_the_shortcut_does_not_pass_in_its_last_block(tables, problem) -> None:
    from shortcutscope.debias.objective import CrossEntropy
    from shortcutscope.debias.training.fit import fit

    tag_is_label = tables["train"].with_columns(label=tables["train"].frame["tag"].to_numpy())
    steps = Training(steps=120, batch_size=16, augmentation="none", precision="fp32")
    taught = fit(problem.network(), tag_is_label, CrossEntropy(), steps, progress=False).model
    judged = gate(taught, tables["held_out"], "tag", progress=False)
    last = judged.frame.iloc[-1]
    assert last["use"] > 1
    assert not last["passes"]
    assert "tag" in tables["held_out"].frame
