from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_states import model_state
from torch import Tensor, nn

from shortcutscope.debias.clarc.activations import ConceptSamples, concept_samples, pooled_activations
from shortcutscope.debias.clarc.clarc import (
    LatentRightReasons,
    linear_classifier,
    p_clarc,
    reactive_p_clarc,
    rr_clarc,
)
from shortcutscope.debias.clarc.gradient_scale import GradientScale
from shortcutscope.debias.clarc.projection import Projected, Shift
from shortcutscope.debias.objective import Batch
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.training.fit import Training
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.models.seeding import seeded
from shortcutscope.probes.cav import pattern_cav


def pooled_at(model: nn.Module, problem: DebiasProblem, name: str) -> np.ndarray:
    (layer,) = find_layers(model, problem.example(), name)
    rows = np.arange(len(problem.train))
    return pooled_activations(model, problem.train, rows, layer, progress=False)[0]


def shift_of(model: nn.Module, i: int = 0) -> Shift:
    assert isinstance(model, Projected)
    shift = model.layer_edits[i].edits[0]  # type: ignore[union-attr, index]
    assert isinstance(shift, Shift)
    return shift


def test_every_sample_scores_like_those_without_the_concept(problem: DebiasProblem) -> None:
    before = model_state(problem.model)
    outcome = p_clarc(problem, layers="blocks.1")
    assert model_state(problem.model) == before
    assert outcome.steps == 0
    plain = pooled_at(problem.model, problem, "blocks.1")
    y, t = problem.train.frame["label"].to_numpy(), problem.train.frame["tag"].to_numpy()
    v = pattern_cav(plain, t, y).signal
    v = v / np.linalg.norm(v)
    # By hand: the mean score of the samples without the concept in each class, classes by their size.
    clean = sum((y == c).mean() * (plain @ v)[(y == c) & (t == 0)].mean() for c in (0, 1))
    after = pooled_at(outcome.model, problem, "model.blocks.1") @ v
    np.testing.assert_allclose(after, clean, atol=1e-5)
    assert float(shift_of(outcome.model).target) == pytest.approx(clean, abs=1e-6)


@pytest.mark.parametrize("classifier", ["logistic", "svm"])
def test_the_reactive_one_moves_what_the_classifier_with_its_intercept_finds(
    problem: DebiasProblem, classifier: str
) -> None:
    outcome = reactive_p_clarc(problem, layers="blocks.1", classifier=classifier)  # type: ignore[arg-type]
    plain = pooled_at(problem.model, problem, "blocks.1")
    y, t = problem.train.frame["label"].to_numpy(), problem.train.frame["tag"].to_numpy()
    weights, intercept = linear_classifier(plain, t, y, classifier)  # type: ignore[arg-type]
    found = plain @ weights + intercept > 0
    assert 0 < found.sum() < len(found)
    assert (found != (plain @ weights > 0)).any()
    x = torch.stack([problem.train[i][0] for i in range(len(problem.train))])
    with torch.no_grad():
        edited, original = outcome.model(x), problem.model(x)
    changed = (edited != original).any(dim=1).numpy()
    np.testing.assert_array_equal(changed, found)


def test_the_classifiers_agree_with_scikit_learn_and_weigh_groups_alike() -> None:
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1], 200)
    t = np.where(generator.random(400) < 0.9, y, 1 - y).astype(float)
    x = np.stack([3 * y + generator.normal(size=400), 2 * t + generator.normal(size=400)], axis=1) + 5
    for kind in ("logistic", "svm"):
        weights, intercept = linear_classifier(x, t, y, kind, C=1.0)  # type: ignore[arg-type]
        assert abs(weights[0]) < 0.25 * weights[1]  # the class does not stand in for the concept
        assert -intercept / weights[1] == pytest.approx(6, abs=1.0 + abs(weights[0] / weights[1]) * 8)


def test_several_layers_are_edited_in_their_order(problem: DebiasProblem) -> None:
    outcome = p_clarc(problem)
    assert set(outcome.details["layers"]) == {"blocks.0", "blocks.1"}
    after = pooled_at(outcome.model, problem, "model.blocks.1") @ shift_of(outcome.model, 1).direction.numpy()
    np.testing.assert_allclose(after, float(shift_of(outcome.model, 1).target), atol=1e-5)


class Written(nn.Module):
    """Writes into what its first convolution gave, and rectifies in place."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(5):
            self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(3, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        h += 0.1
        h = self.relu(h).square()
        logits: Tensor = self.head(h.mean((2, 3)))
        return logits


def small_batch() -> Batch:
    images = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, rows = torch.tensor([0, 1, 1, 0, 1]), torch.arange(5)
    return Batch(images, labels, rows, 0.0, torch.Generator().manual_seed(3))


def test_the_penalty_is_the_slope_by_hand_also_behind_inplace_operations(problem: DebiasProblem) -> None:
    model, batch = Written().double(), small_batch()
    (layer,) = find_layers(model, batch.images, "conv")
    assert layer.overwritten
    known = ConceptSamples(np.arange(2), np.array([0.0, 1.0]), np.array([0, 0]), ())
    objective = LatentRightReasons(problem.train, known, [layer], GradientScale(1.0))
    v = torch.tensor([0.6, 0.0, 0.8])
    objective.vectors[0].copy_(v)
    terms = objective(model, batch)
    signs = 2.0 * torch.randint(0, 2, (5, 2), generator=torch.Generator().manual_seed(3)) - 1
    expected = 0.0
    for i in range(5):
        a = model.conv(batch.images[i : i + 1]).detach().requires_grad_()
        logits = model.head((a + 0.1).relu().square().mean((2, 3)))
        (slope,) = torch.autograd.grad((signs[i].double() * logits).sum(), a)
        expected += float(slope.mean((2, 3))[0] @ v.double()) ** 2 / 5
    assert float(terms["rr-clarc"].detach()) / objective.scale.weight == pytest.approx(expected, rel=1e-6)
    torch.autograd.backward(sum(terms.values()))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_training_pulls_the_slope_down_and_leaves_the_model_alone(problem: DebiasProblem) -> None:
    given = replace(problem, training=Training(steps=12, batch_size=32, lr=3e-3, precision="fp32"))
    before = model_state(problem.model)
    outcome = rr_clarc(given, layers="blocks.1", strength=30.0)
    assert model_state(problem.model) == before
    assert outcome.steps == 12
    assert not outcome.model.training
    v = pooled_at(problem.model, problem, "blocks.1")
    y, t = problem.train.frame["label"].to_numpy(), problem.train.frame["tag"].to_numpy()
    direction = torch.from_numpy(pattern_cav(v, t, y).signal).float()
    slopes = []
    for model in (problem.model, outcome.model):
        # The last block is averaged and read by one linear layer: its slope is that layer's weights.
        slopes.append(float((model.fc.weight.detach() @ direction).square().sum()))  # type: ignore[union-attr, operator]
    assert slopes[1] < 0.7 * slopes[0]
    assert any("lambda is relative" in note for note in outcome.notes)


def test_vectors_are_refitted_when_an_epoch_begins(problem: DebiasProblem) -> None:
    (layer,) = find_layers(problem.model, problem.example(), "blocks.1")
    known = concept_samples(problem, "rr-clarc")
    objective = LatentRightReasons(problem.train, known, [layer], GradientScale(1.0), refit="epoch", epochs=2)
    objective.fit_vectors(problem.model)
    first = objective.vectors[0].clone()
    assert float(first.norm()) == pytest.approx(1, abs=1e-5)
    model = problem.network("model")
    with torch.no_grad():
        model.blocks[1].bn2.weight.mul_(torch.linspace(0, 2, 16))  # type: ignore[index, union-attr, operator]
    x, y = torch.stack([problem.train[i][0] for i in range(4)]), torch.tensor([0, 1, 0, 1])
    model.train()
    objective(model, Batch(x, y, torch.arange(4), 0.4))
    assert torch.equal(objective.vectors[0], first)
    objective(model, Batch(x, y, torch.arange(4), 0.5))
    assert not torch.allclose(objective.vectors[0], first)
    assert int(objective.state_dict()["epoch"]) == 1
    assert model.training
    assert all(p.requires_grad for p in model.parameters())


def test_samples_whose_concept_is_unknown_are_left_out(problem: DebiasProblem) -> None:
    assert problem.carries is not None
    holes = problem.carries.copy()
    holes[::3] = np.nan
    rows = np.flatnonzero(~np.isnan(holes))
    expected = p_clarc(
        replace(problem, train=problem.train.take(rows), carries=holes[rows]), layers="blocks.1"
    )
    outcome = p_clarc(replace(problem, carries=holes), layers="blocks.1")
    torch.testing.assert_close(shift_of(outcome.model).direction, shift_of(expected.model).direction)
    assert any("32 with an unknown concept" in note for note in outcome.notes)


@pytest.mark.parametrize("recipe", [p_clarc, reactive_p_clarc, rr_clarc])
def test_what_a_recipe_lacks_is_said_before_anything_runs(problem: DebiasProblem, recipe: object) -> None:
    assert callable(recipe)
    y = problem.train.frame["label"].to_numpy().astype(float)
    with pytest.raises(InputError, match="carries is None"):
        recipe(replace(problem, carries=None))
    with pytest.raises(InputError, match="label 0 with the concept, label 1 without the concept"):
        recipe(replace(problem, carries=y))
    with pytest.raises(InputError, match="with and without"):
        recipe(replace(problem, carries=0 * y))
    with pytest.raises(InputError, match="no module of the model"):
        recipe(problem, layers=["blocks.1", "block.9"])


def test_new_weights_need_new_vectors(problem: DebiasProblem) -> None:
    with pytest.raises(InputError, match="refit='epoch'"):
        rr_clarc(problem, start="fresh")


def test_tokens_are_penalised_at_the_class_token_and_at_the_patches() -> None:
    from shortcutscope.debias.clarc.clarc import _squared_slopes

    layer = Layer("block", "Block", "tokens", (5, 3), 0.5, prefix_tokens=1, grid=(2, 2))
    slope, vectors = torch.randn(2, 5, 3), torch.eye(3)[:2]
    by_hand = (slope[:, 1:, 0].mean(1).square().mean() + slope[:, 0, 1].square().mean()) / 2
    torch.testing.assert_close(_squared_slopes(layer, slope, vectors), by_hand)


def test_what_leads_to_the_layer_can_be_held(problem: DebiasProblem) -> None:
    given = replace(problem, training=Training(steps=12, batch_size=32, precision="fp32"))
    outcome = rr_clarc(given, layers="blocks.0", strength=10.0, trained="above")
    before, after = problem.model.state_dict(), outcome.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any(name.startswith(("stem", "blocks.0")) for name in moved)
    assert any(name.startswith("blocks.1") for name in moved)
    assert all(parameter.requires_grad for parameter in outcome.model.parameters())
    # So it is by default, but where nothing lies behind the layer.
    default = rr_clarc(given, layers="blocks.0", strength=10.0).model.state_dict()
    assert all(torch.equal(default[name], after[name]) for name in after)
    assert any("whole network" in note for note in rr_clarc(given, layers="fc").notes)
    with pytest.raises(InputError, match="fresh"):
        rr_clarc(given, start="fresh", refit="epoch", trained="above")
