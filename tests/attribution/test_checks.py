"""The checks refuse what the rules get wrong, with a reason that names it, and pass what they get right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
import torch
from model_states import model_state
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from shortcutscope.attribution.checks import Checks, Tolerance, check_lrp
from shortcutscope.attribution.lrp import get_composite
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import thin_resnet18


class Net(nn.Module):
    """Convolution, ReLU, convolution, `act`, mean, linear layer."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with seeded(0):
            self.first = nn.Conv2d(1, 8, 3, padding=1)
            self.second = nn.Conv2d(8, 8, 3, padding=1)
            self.fc = nn.Linear(8, 2)
        self.act = act

    def block(self, h: Tensor) -> Tensor:
        return self.act(self.second(h))

    def features(self, x: Tensor) -> Tensor:
        return self.block(functional.relu(self.first(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class Checkpointed(Net):
    def __init__(self, reentrant: bool) -> None:
        super().__init__(functional.relu)
        self.reentrant = reentrant

    def features(self, x: Tensor) -> Tensor:
        return checkpoint(self.block, functional.relu(self.first(x)), use_reentrant=self.reentrant)


class Perceptron(nn.Module):
    """A function directly before a linear layer, whose bias could take the blame for it."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with seeded(0):
            self.hidden, self.fc = nn.Linear(36, 16), nn.Linear(16, 2)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.act(self.hidden(x.flatten(1))))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.lstm, self.fc = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x[:, 0])[0].mean(1))


class OwnSwish(torch.autograd.Function):
    """The memory-saving swish that older networks bring along."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        gate = torch.sigmoid(x)
        return gradient * gate * (1 + x * (1 - gate))


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class StatementInPlace(Net):
    def block(self, h: Tensor) -> Tensor:
        h = self.second(h)
        functional.silu(h, inplace=True)
        return h


class MobileBlock(nn.Module):
    """As in EfficientNet: expansion, depthwise convolution, SE gate, projection, each with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
            self.depthwise = nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.SiLU()
            )
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
            self.fc = nn.Linear(8, 2)
            # A channel of which z+ finds no positive contribution: all weights negative, inputs positive.
            self.depthwise[0].weight.data.abs_().neg_()
            self.stem[1].bias.data.fill_(2.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.depthwise(self.stem(x))
        return self.fc((h * self.gate(h)).mean((2, 3)))


class TinyViT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with seeded(0):
            self.patches = nn.Conv2d(1, 16, 3, 3)
            self.token, self.position = (
                nn.Parameter(torch.randn(1, 1, 16)),
                nn.Parameter(torch.randn(1, 5, 16)),
            )
            self.block = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True)
            self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.position
        return self.fc(self.block(tokens)[:, 0])


class Logarithm(nn.Module):
    """Finite, but of an infinite slope where its input is zero."""

    def forward(self, h: Tensor) -> Tensor:
        return torch.where(h > 0, torch.log(h), 0.0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def scripted_inside() -> nn.Module:
    net = Net(functional.relu)
    net.act = torch.jit.script(nn.GELU())
    return net


def nan_weights() -> nn.Module:
    net = Net(functional.relu)
    net.second.weight.data[0, 0, 0, 0] = float("nan")
    return net


def dead() -> nn.Module:
    net = Net(functional.relu)
    for parameter in net.fc.parameters():
        parameter.data.zero_()
    return net


REFUSED = {
    "zero scores": (dead, "scores are zero"),
    "scripted module": (scripted_inside, "'act' is a TorchScript module"),
    "scripted function": (lambda: Net(torch.jit.script(swish)), "between second and the model itself"),
    "custom function": (lambda: Net(OwnSwish.apply), "OwnSwishBackward"),
    "custom function whose successor has a bias": (lambda: Perceptron(OwnSwish.apply), "OwnSwishBackward"),
    "reentrant checkpoint": (lambda: Checkpointed(True), "switch checkpointing off"),
    "checkpoint": (lambda: Checkpointed(False), "second is checkpointed"),
    "batch statistics": (
        lambda: Net(nn.BatchNorm2d(8, track_running_stats=False)),
        "track_running_stats=True",
    ),
    "LSTM": (Recurrent, "lstm in lstm absorbs"),
    "operation without a rule": (lambda: Net(torch.cos), "cos in the model itself"),
    "random numbers": (lambda: Net(lambda h: functional.dropout(h, 0.5, True)), "draws random numbers"),
    "NaN": (nan_weights, "check its weights"),
    "no gradient": (lambda: Net(torch.no_grad()(functional.relu)), "no gradient"),
    "error under the rules": (lambda: Net(lambda h: torch.clamp(h, min=h.mean())), "no relevance rule"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore:`torch.jit.script`", "ignore:None of the inputs have requires_grad")
def test_refuses_with_a_reason(case, x):
    make, words = REFUSED[case]
    model = make()
    before = {} if case == "scripted module" else model_state(model)

    checks = check_lrp(model, x, "epsilon")

    assert not checks.passed
    assert words in "; ".join(checks.reasons)
    assert before == ({} if case == "scripted module" else model_state(model))
    json.dumps(checks.to_json(), allow_nan=False)


PASSING = {
    "thin ResNet": (lambda: thin_resnet18(width=4), "epsilon_plus"),
    "tiny ViT": (TinyViT, "epsilon_gamma"),
    "SE gate and SiLU": (MobileBlock, "epsilon_gamma"),
    "in place as a statement": (lambda: StatementInPlace(functional.relu), "epsilon_gamma"),
    "gelu": (lambda: Net(functional.gelu), "gamma"),
}


@pytest.mark.parametrize("case", PASSING)
def test_passes_what_the_rules_get_right(case, x):
    make, composite = PASSING[case]
    model = make().train()  # as a user may hand it over
    before, generator = model_state(model), torch.random.get_rng_state()

    checks = check_lrp(model, x, composite)

    assert checks.reasons == ()
    assert checks.passed
    assert checks.finite
    assert checks.forward_error <= 1e-6
    assert checks.remainder <= 1e-5
    assert checks.absorbed_by_rules <= 1e-4
    signed = checks.operations["absorbed"].sum()
    assert checks.conservation + signed == pytest.approx(1, abs=1e-4)
    assert model_state(model) == before
    assert torch.equal(torch.random.get_rng_state(), generator)


def test_double_precision_has_its_own_tolerance(x):
    checks = check_lrp(TinyViT().double(), x.double(), "epsilon_gamma")

    assert checks.passed
    assert checks.forward_error <= Tolerance.of(torch.float64).forward == 1e-10


def test_z_plus_on_a_signed_depthwise_convolution_names_it_and_what_to_do(x):
    model = MobileBlock().eval()

    checks = check_lrp(model, x, "epsilon_plus")

    assert not checks.passed
    assert checks.absorbed_by_rules > 0.02
    assert checks.operations["absorbed"].abs().is_monotonic_decreasing
    (reason,) = checks.reasons
    assert "the convolution with its batch_norm in depthwise.1" in reason
    assert "use composite epsilon_gamma" in reason


def test_a_scalar_target_tensor_target_and_labels_agree(x):
    model = thin_resnet18(width=4)
    one = check_lrp(model, x, "epsilon_plus", Explained(1))
    each = check_lrp(model, x, "epsilon_plus", Explained(torch.ones(5, dtype=torch.long)))
    labelled = check_lrp(model, x, "epsilon_plus", Explained("label", labels=torch.ones(5, dtype=torch.long)))

    assert one.conservation == each.conservation == labelled.conservation
    pd.testing.assert_frame_equal(one.operations, each.operations)


def test_scores_of_either_sign_do_not_cancel(x):
    model = Net(functional.relu)
    for layer in (model.first, model.second, model.fc):
        layer.bias.data.zero_()
    with torch.no_grad():
        scores = model(x)
    target = (scores[:, 1] > scores[:, 0]).long()
    target[0] = 1 - target[0]

    assert check_lrp(model, x, "epsilon", Explained(target)).conservation == pytest.approx(1, abs=1e-5)


def test_infinite_relevance_is_located(x):
    model = Net(functional.relu)
    model.act = nn.Sequential(nn.ReLU(), Logarithm())

    checks = check_lrp(model, x, "epsilon")

    assert not checks.finite
    assert "NaN or infinite, from the output of act.0 on" in checks.reasons[0]


def test_the_rule_of_a_first_layer_that_reads_something_else_than_the_image(x):
    checks = check_lrp(Recurrent(), x, "epsilon_gamma_box")

    assert not checks.passed
    assert "without a rule for the first layer" in checks.reasons[0]


def test_wrong_questions_are_the_callers_errors(x):
    model = thin_resnet18(width=4)
    with pytest.raises(InputError, match="outside the model's 2 classes"):
        check_lrp(model, x, "epsilon_plus", Explained(2))
    with pytest.raises(InputError, match="unknown"):
        check_lrp(model, x, "zplus")


def test_the_tolerance_can_be_set(x):
    strict = replace(Tolerance(), rules=0.0, remainder=0.0, forward=0.0)
    loose = replace(Tolerance(), rules=1e9)

    assert check_lrp(MobileBlock(), x, "epsilon_plus", tolerance=loose).passed
    assert not check_lrp(MobileBlock(), x, "epsilon_plus", tolerance=strict).passed


def test_mixed_precision_gives_a_verdict_and_leaves_no_autocast(x):
    checks = check_lrp(thin_resnet18(width=4), x, get_composite("epsilon"), autocast=torch.bfloat16)

    assert isinstance(checks, Checks)
    assert checks.passed or checks.reasons
    assert not torch.is_autocast_enabled("cpu")
