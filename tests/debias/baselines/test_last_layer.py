from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from shortcutscope.debias.baselines.last_layer import dfr, fit_last, last_features, last_linear, with_last
from shortcutscope.errors import InputError
from shortcutscope.planting.thin import thin_resnet18


def _features(model: nn.Module, table) -> np.ndarray:
    with torch.no_grad():
        images = torch.stack([image for image, _, _ in table])
        return model.pool(model.blocks(model.stem(images))).flatten(1).double().numpy()


@pytest.mark.parametrize("n_scores", [1, 2])
def test_on_a_balanced_subset_it_is_logistic_regression_on_the_features(n_scores: int, problem) -> None:
    # Classes alone as groups, equally large: every subset is the whole, so that all fits are one.
    labels = problem.clean.frame["label"].to_numpy()
    least = np.bincount(labels).min()
    rows = np.concatenate([np.flatnonzero(labels == label)[:least] for label in (0, 1)])
    clean = problem.clean.take(np.sort(rows))
    model = thin_resnet18(width=4, num_classes=n_scores).eval()
    outcome = dfr(replace(problem, model=model, clean=clean, clean_carries=None), c=0.7, n_subsets=3)

    features = _features(model, clean)
    scaler = StandardScaler().fit(features)
    lasso = {"l1_ratio": 1.0} if LogisticRegression().penalty == "deprecated" else {"penalty": "l1"}
    fit = LogisticRegression(C=0.7, solver="liblinear", max_iter=1000, random_state=0, **lasso)
    fit.fit(scaler.transform(features), clean.frame["label"])
    expected = fit.decision_function(scaler.transform(_features(model, problem.train)))
    with torch.no_grad():
        logits = outcome.model(torch.stack([image for image, _, _ in problem.train])).double()
    margin = logits[:, 0] if n_scores == 1 else logits[:, 1] - logits[:, 0]
    assert margin.numpy() == pytest.approx(expected, abs=1e-2)
    assert outcome.steps == 0
    assert "not given" in outcome.notes[0]


def test_several_classes_are_fitted_by_softmax() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    features = rng.normal(size=(90, 5)) * 3 + 7
    features[np.arange(90), labels] += 9
    weight, bias, late = fit_last(features, labels, labels, 1.0, 2, 0)
    assert weight.shape == (3, 5)
    assert ((features @ weight.T + bias).argmax(1) == labels).mean() > 0.95
    assert late == 0


def test_subsets_hold_every_group_alike_and_leave_the_unknown_out() -> None:
    # The label is feature 0; feature 1 goes with it in the large group and against it in the materials one.
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 600)
    aligned = rng.random(600) < 0.9
    concept = np.where(aligned, labels, 1 - labels)
    features = np.stack([labels + rng.normal(0, 0.7, 600), concept + rng.normal(0, 0.3, 600)], 1)
    index = 2 * labels + concept
    index[:50] = -1
    balanced, _, _ = fit_last(features, labels, index, 1.0, 10, 0)
    plain, _, _ = fit_last(features, labels, labels, 1.0, 10, 0)
    assert abs(balanced[0, 1]) < 0.2 * abs(plain[0, 1])


def test_features_are_the_inputs_of_the_layer_that_gives_the_scores(problem) -> None:
    assert last_linear(problem.model, problem.example()) == "fc"
    found = last_features(problem.model, problem.train, "fc", 10)
    assert found == pytest.approx(_features(problem.model, problem.train), abs=1e-5)
    assert not problem.model.fc._forward_pre_hooks


def test_the_model_is_not_changed_and_a_copy_has_the_new_layer(problem) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 2, bias=False))
    changed = with_last(model, "1", np.ones((1, 1024)), np.array([3.0]))
    assert changed(torch.zeros(1, 1, 32, 32)).tolist() == [[-1.5, 1.5]]
    assert model[1].bias is None
    assert isinstance(with_last(nn.Linear(3, 1), "", np.ones((1, 3)), [0]), nn.Linear)


def test_other_last_layers_are_refused(problem) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(1024, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.flatten(1)) * 2

    with pytest.raises(InputError, match=r"must be an nn.Linear .* \(linear layers: fc\)"):
        dfr(replace(problem, model=Normed()))


def test_recipe_chooses_the_penalty(problem) -> None:
    outcome = dfr(problem, n_subsets=4)
    assert outcome.details["c"] in (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)
    assert torch.equal(outcome.model.stem[0].weight, problem.model.stem[0].weight)
    again = dfr(problem, n_subsets=4)
    assert torch.equal(outcome.model.fc.weight, again.model.fc.weight)


def test_refuses_what_the_clean_samples_do_not_allow(problem) -> None:
    labels = problem.clean.frame["label"].to_numpy(dtype=float)
    carries = labels.copy()
    carries[np.flatnonzero(labels == 1)[0]] = 0
    with pytest.raises(InputError, match="'label 0 with the concept'"):
        dfr(replace(problem, clean_carries=carries))
    with pytest.raises(InputError, match="no clean samples"):
        dfr(replace(problem, clean=None))
    with pytest.raises(InputError, match="c is empty"):
        dfr(problem, c=[])
    with pytest.raises(InputError, match=r"3 classes and the clean subset no sample of 2"):
        dfr(replace(problem, model=thin_resnet18(num_classes=3, width=4)))
    none = dfr(replace(problem, clean_carries=np.zeros(len(labels))), c=0.1, n_subsets=2)
    assert "no clean sample carries" in none.notes[0]
