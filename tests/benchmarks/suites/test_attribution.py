"""Relevance on the architectures: what is measured is what is there, and wrong relevance is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_states import model_state
from torch import Tensor, nn

from shortcutscope.benchmarks import architectures
from shortcutscope.benchmarks.architectures import ARCHITECTURES, Architecture, Prepared, prepare, zero_biases
from shortcutscope.benchmarks.attributions import conservation
from shortcutscope.benchmarks.attributions.propagation_costs import _Costs
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import attribution
from shortcutscope.models.frozen import frozen

SETTINGS = Settings(quick=False, seed=0, data=None, cache=Path("unused"), jobs=1)
QUICK = Settings(quick=True, seed=0, data=None, cache=Path("unused"), jobs=1)


def rightness(model: str, method: str) -> dict[str, object]:
    case = {"group": "rightness", "model": model, "weights": "random", "method": method}
    return {**case, **attribution.run_case(case, SETTINGS)}


def test_every_architecture_is_listed_with_both_weights_and_every_method():
    listed = attribution.cases(SETTINGS)
    assert len({tuple(case.items()) for case in listed}) == len(listed)
    right = {(c["model"], c["weights"], c["method"]) for c in listed if c["group"] == "rightness"}
    assert {
        (n, w, m) for n in ARCHITECTURES for w in ("random", "trained") for m in attribution.METHODS
    } <= right
    assert ("swin_t", "random", "lrp:attn") in right
    costs = [(c["model"], c["input"], c["batch"]) for c in listed if c["group"] == "cost"]
    assert set(costs) == set(attribution.COSTS)
    assert len(costs) == len(attribution.COSTS) * len(attribution.COST_METHODS)
    assert len(attribution.cases(QUICK)) < 30
    assert set(attribution.QUICK) <= set(ARCHITECTURES)


@pytest.mark.parametrize("name", ["resnet1d", "hand-written"])
def test_relevance_of_small_networks_is_measured_as_right(name):
    found = rightness(name, "lrp")
    assert found["right"]
    assert not found["unsaid"]
    assert found["outcome"] == "ok"
    assert found["composite"] == "epsilon_plus"
    assert found["conservation_error"] < 1e-4
    assert found["conservation_error"] >= found["conservation_error_input"]
    assert found["cuts"] >= 2
    assert found["forward_error"] <= 1e-12
    assert found["remainder"] < 1e-10
    assert found["worst_operation"]["kind"] == "bias"
    assert found["absorbed"] > 0.01


def test_what_zennit_and_captum_cannot_do_is_a_result():
    zennit = rightness("hand-written", "zennit:epsilon_plus")
    assert zennit["outcome"] == "fallback"
    assert zennit["reason"]
    assert zennit["conservation_error"] > 0.1
    assert not zennit["right"]
    assert not zennit["unsaid"]
    captum = rightness("hand-written", "captum:lrp")
    assert (captum["outcome"], captum["right"]) == ("refused", False)
    assert "more than once" in captum["reason"]


def test_captum_is_not_checked_by_anyone():
    found = rightness("resnet1d", "captum:lrp")
    assert found["outcome"] == "refused" or (found["outcome"] == "unchecked" and found["unsaid"])


class Bypassing(nn.Module):
    """A square that no rule sees."""

    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x * x

        @staticmethod
        def backward(ctx, gradient: Tensor) -> Tensor:
            return gradient

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.fc = nn.Linear(4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.Hidden.apply(self.conv(x)).mean((2, 3)))


def test_relevance_that_bypasses_the_rules_is_not_right_and_said_to_be():
    generator = torch.Generator().manual_seed(0)
    prepared = Prepared(Bypassing().eval(), torch.rand(2, 1, 8, 8, generator=generator), 0, None)
    found = conservation.conserved(prepared, "lrp")
    assert found["outcome"] == "fallback"
    assert "HiddenBackward" in found["reason"]
    error = found["conservation_error"]
    assert found["failure"] if error is None else error > 0.01


def test_zero_biases_is_a_copy_that_is_homogeneous():
    prepared = prepare("resnet1d", "random", 0, Path("unused"))
    before = model_state(prepared.model)
    bare = zero_biases(prepared.model).double()
    assert model_state(prepared.model) == before
    x = prepared.x.double()
    with torch.no_grad():
        assert torch.allclose(bare(3 * x), 3 * bare(x), rtol=1e-12)
        assert not torch.allclose(prepared.model.double()(3 * x), 3 * prepared.model(x), rtol=1e-3)


def test_zero_biases_takes_out_a_transformers_constants():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
            self.pos_embed = nn.Parameter(torch.ones(1, 3, 4))
            self.attention = nn.MultiheadAttention(4, 2)
            nn.init.ones_(self.attention.in_proj_bias)

    bare = zero_biases(Tokens())
    zero = {name for name, parameter in bare.named_parameters() if not parameter.any()}
    assert zero == {"cls_token", "pos_embed", "attention.in_proj_bias", "attention.out_proj.bias"}


def test_a_cut_carries_all_of_the_score():
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Conv2d(1, 4, 3, padding=1)
            self.left = nn.Conv2d(4, 4, 3, padding=1)
            self.right = nn.Conv2d(4, 4, 3, padding=1)
            self.join = nn.Conv2d(4, 4, 3)
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.trunk(x)
            return self.fc(self.join(self.left(h) + self.right(h)).mean((2, 3)))

    with frozen(Branched()) as model:
        cuts = [layer.name for layer in conservation.cut_layers(model, torch.rand(2, 1, 8, 8))]
    assert {"trunk", "join"} <= set(cuts)
    assert not {"left", "right"} & set(cuts)


def test_errors_of_samples_do_not_cancel():
    score = torch.tensor([1.0, -1.0])
    assert conservation.error_of(torch.tensor([2.0, -2.0]), score) == 1
    assert conservation.error_of(torch.tensor([1.5, -1.5]), score) == 0.5
    assert conservation.error_of(score, score) == 0


def test_trained_weights_are_learned_once_and_kept(tmp_path, monkeypatch):
    first = prepare("resnet1d", "trained", 0, tmp_path)
    monkeypatch.setattr(architectures, "train_classifier", None)
    again = prepare("resnet1d", "trained", 0, tmp_path)
    assert first.accuracy == again.accuracy > 0.8
    assert first.steps == architectures.STEPS
    assert torch.equal(first.x, again.x)
    with torch.no_grad():
        assert torch.equal(first.model(first.x), again.model(again.x))
    assert all(parameter.requires_grad for parameter in first.model.parameters())
    random = prepare("resnet1d", "random", 0, tmp_path)
    assert not torch.equal(random.model(random.x), first.model(random.x))


def test_volumes_and_images_come_in_the_channels_that_are_asked_for():
    volumes, images = (architectures.task(shape, 4, 0) for shape in ((3, 4, 16, 16), (3, 32, 32)))
    assert volumes[0][0].shape == (3, 4, 16, 16)
    assert images[0][0].shape == (3, 32, 32)
    assert torch.equal(images[0][0][0], images[0][0][2])
    assert set(images.frame["label"]) == {0, 1}


def test_costs_count_what_the_rules_keep_besides_autograd(monkeypatch):
    wide = Architecture(
        lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(3 * 64, 10)), "wide"
    )
    monkeypatch.setitem(architectures.ARCHITECTURES, "wide", wide)
    case = {"model": "wide", "method": "lrp:gamma", "input": 8, "batch": 4}
    with _Costs(case, 0) as costs:
        plain, ruled = costs.saved_bytes(None), costs.saved_bytes(costs.composite)
        costs.scan()
        costs.forward_backward()
    image = 4 * 3 * 64 * 4
    # Linear maps with frozen weights need nothing, and the graph holds its leaf; gamma needs both inputs.
    assert image <= plain < 1.2 * image
    assert 2 * image <= ruled < 4 * image


FINISHED = {
    "group": "rightness", "model": "resnet18", "weights": "random", "method": "lrp",
    "composite": "epsilon_plus",
    "conservation_error": 1e-5, "conservation_bar": 1e-3, "absorbed": 0.1, "remainder": 1e-15,
    "forward_error": 0.0, "finite": True, "outcome": "ok", "reason": None, "right": True, "unsaid": False,
}  # fmt: skip
COST = {
    "group": "cost", "model": "resnet18", "method": "lrp", "cost_fb": 1.6, "zennit_to_scan": 2.2,
    "saved_memory": 0.7,
}  # fmt: skip


def test_summary_computes_every_bar_from_the_cases():
    gamma = {**COST, "method": "lrp:gamma", "cost_fb": 2.5}
    transformer = {**COST, "model": "timm vit_tiny", "cost_fb": 1.1, "zennit_to_scan": None}
    good = attribution.summarize([FINISHED, COST, gamma, transformer])
    assert good["bars_met"] is True
    assert good["cost_stretch_met"] is False
    assert good["bars"]["LRP scan / FB"] == {"worst": 1.6, "bar": 1.8, "met": True}
    assert good["not_right"] == []
    assert attribution.summarize([FINISHED])["bars_met"] is None
    wrong = {**FINISHED, "conservation_error": 0.5, "right": False, "unsaid": True}
    bad = attribution.summarize([wrong, COST, gamma, transformer])
    assert bad["bars_met"] is False
    assert bad["methods"]["lrp"]["wrong_unsaid"] == 1
    assert bad["not_right"][0]["model"] == "resnet18"
    slow = attribution.summarize([FINISHED, {**COST, "cost_fb": 1.9}, gamma, transformer])
    assert [name for name, bar in slow["bars"].items() if not bar["met"]] == ["LRP scan / FB"]


def test_summary_does_not_hold_references_to_the_bars():
    captum = {**FINISHED, "method": "captum:lrp", "outcome": "unchecked", "right": False, "unsaid": True}
    summary = attribution.summarize([FINISHED, captum])
    assert summary["bars"]["wrong without saying so"]["met"] is True
    assert summary["methods"]["captum:lrp"]["wrong_unsaid"] == 1
