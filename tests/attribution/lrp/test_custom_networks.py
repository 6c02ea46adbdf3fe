"""What users write: every way to call an operation, and what torch's own building blocks do inside."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from shortcutscope.attribution.lrp import COMPOSITES, audit_defects, default_composite, propagation
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.planting.thin import ThinResNet


class ReusedReLU(nn.Module):
    """One ReLU for all layers, its input normalised in place."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 12, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = x.clone()
        x.div_(0.5)
        h = self.relu(self.norm1(self.conv1(x)))
        g = self.conv2(h)
        g += h
        return self.head(self.relu(g).mean((2, 3)))


class UNet(nn.Module):
    """Transposed convolutions, a skip connection by concatenation, group and instance norm."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.deep = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.inner = nn.InstanceNorm2d(12, affine=True)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.last = nn.Conv2d(16, 8, 3, padding="same")
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        h = F.leaky_relu(self.norm(self.down(x)), 0.1)
        k = self.up(F.elu(self.inner(self.deep(h))))
        return self.head(torch.relu(self.last(torch.cat((h, k), dim=1))).amax((2, 3)))


class Attention(nn.Module):
    """Attention over positions by einsum, with a residual and a gated branch."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.mlp = nn.Linear(16, 64)
        self.out = nn.Linear(32, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        t = self.stem(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(t)).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        weights = torch.einsum("bhqd,bhkd->bhqk", q, k).div(math.sqrt(4)).softmax(dim=-1)
        t = t + torch.einsum("bhqk,bhkd->bqhd", weights, v).flatten(2)
        signal, gate = self.mlp(self.norm(t)).chunk(2, -1)
        t = t + self.out(F.silu(gate) * signal)
        return self.head(t.mean(1))


class Encoder(nn.Module):
    """torch's own transformer, with its fast paths, behind a convolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, stride=4)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu", norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.encoder(self.stem(x).flatten(2).mT).mean(1))


class Functional(nn.Module):
    """No module calls at all: weights by hand, methods, keywords, operators."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3) / 5)
        self.bias = nn.Parameter(torch.randn(8))
        self.matrix = nn.Parameter(torch.randn(8, 4))

    def forward(self, x):
        h = F.conv2d(input=x, weight=self.weight, bias=self.bias, stride=2, padding=1).relu()
        h = torch.conv2d(h, self.weight.repeat(1, 3, 1, 1)[:, :8], None, padding=1).clamp(min=0) + h
        h = F.hardswish(h) - 0.1 * h
        return F.adaptive_avg_pool2d(h, output_size=1).squeeze(-1).squeeze(-1) @ self.matrix


class Gates(nn.Module):
    """Squeeze-and-excite as it is written in different libraries, and a residual in between."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.a, self.b = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.c, self.d = nn.Linear(12, 4), nn.Linear(4, 12)
        self.spatial = nn.Conv2d(2, 1, 3, padding=1)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        h = F.relu(self.stem(x))
        h = h * torch.sigmoid(self.b(F.relu(self.a(F.adaptive_avg_pool2d(h, 1))))) + h
        s = F.hardsigmoid(self.d(F.relu(self.c(h.mean((-2, -1)))))).view(-1, 12, 1, 1)
        h *= s.expand_as(h)
        pooled = torch.stack([h.mean(1), h.amax(1)], 1)
        h = torch.sigmoid(self.spatial(pooled)) * h
        return self.head(h.flatten(2).mean(-1))


class Volumes(nn.Module):
    """Three dimensions from two: slices through a shared encoder, one vote."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2))
        self.mix = nn.Conv3d(12, 12, (2, 3, 3))
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        slices = [self.encoder(x[:, i : i + 1]) for i in range(x.shape[1])]
        return self.head(F.relu(self.mix(torch.stack(slices, 2))).mean((2, 3, 4)))


NETWORKS = {
    "reused relu": ReusedReLU,
    "u-net": UNet,
    "attention": Attention,
    "transformer encoder": Encoder,
    "functional": Functional,
    "gates": Gates,
    "volumes": Volumes,
    "thin resnet": lambda: ThinResNet(in_channels=3, num_classes=4),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = NETWORKS[request.param]().double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 1.5)
    return model


def images(seed=1):
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).double()


def without_biases(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    return model


def explain(model, x, composite):
    image = x.clone().requires_grad_()
    with frozen(model), propagation(composite) as run:
        logits = model(image)
        score = logits.gather(1, logits.detach().abs().argmax(1, keepdim=True)).squeeze(1)
        (gradient,) = torch.autograd.grad(score.sum(), image, allow_unused=True)
        return logits.detach(), score.detach(), run.input_relevance(image, gradient).detach()


def test_forward_is_the_networks_own(network):
    x = images()
    plain = network(x.clone().requires_grad_()).detach()
    for composite in COMPOSITES.values():
        if isinstance(network, Volumes) and composite.first is not None:
            continue  # refused, see below
        logits, _, relevance = explain(network, x, composite)
        assert (logits - plain).abs().max() <= 1e-12 * plain.abs().max()
        assert torch.isfinite(relevance).all()


def test_conservation_without_biases(network):
    model = without_biases(network)
    x = images()
    for composite, tolerance in ((COMPOSITES["epsilon"], 1e-9), (default_composite(model, x), 1e-2)):
        _, score, relevance = explain(model, x, composite)
        error = ((relevance.flatten(1).sum(1) - score) / score).abs().max()
        assert error <= tolerance, f"{composite.name}: {error:.1e} of the score are missing"


def test_whole_difference_is_attributed(network):
    x = images()
    audit = audit_defects(network, x, default_composite(network, x))
    size = max(abs(audit.score), audit.table["absorbed"].abs().max())
    assert abs(audit.remainder) <= 1e-9 * size
    assert set(audit.table["kind"]) <= {"bias", "constant", "rule"}
    assert audit.score == pytest.approx(
        audit.input_relevance + audit.table["absorbed"].sum(), abs=1e-8 * size
    )


def test_a_first_layer_that_reads_parts_of_the_image_is_refused():
    """Its rule gives relevance to what it reads, a slice, and nobody knows which."""
    model = Volumes().double().eval()
    with pytest.raises(InputError, match="without a rule for the first layer"):
        explain(model, images(), COMPOSITES["epsilon_plus_flat"])


def test_spelling_does_not_matter():
    """The functional network and the same one in modules."""

    class Modules(nn.Module):
        def __init__(self, like):
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.head = nn.Linear(8, 4, bias=False)
            self.act, self.pool, self.swish = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Hardswish()
            self.first.weight, self.first.bias = like.weight, like.bias
            self.second.weight = nn.Parameter(like.weight.detach().repeat(1, 3, 1, 1)[:, :8])
            self.head.weight = nn.Parameter(like.matrix.detach().T)

        def forward(self, x):
            h = self.act(self.first(x))
            h = self.act(self.second(h)) + h
            h = self.swish(h) - 0.1 * h
            return self.head(self.pool(h).flatten(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        written = Functional().double().eval()
        modules = Modules(written).double().eval()
    x = images()
    for name in ("epsilon_plus", "epsilon_gamma", "epsilon_alpha2_beta1_flat"):
        _, _, first = explain(written, x, COMPOSITES[name])
        _, _, second = explain(modules, x, COMPOSITES[name])
        assert (first - second).abs().max() <= 1e-6 * second.abs().max()


class Doubled(torch.autograd.Function):
    """An operation of the user's own, whose inside nobody sees: y = x + 1 with a doubled gradient."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x + 1

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_what_bypasses_the_rules_is_noticed():
    """A custom autograd function is no torch operation: its effect must show in the audit."""

    class Bypassing(ReusedReLU):
        def forward(self, x):
            return super().forward(Doubled.apply(x))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Bypassing().double().eval(), images()
    audit = audit_defects(model, x, COMPOSITES["epsilon"])
    named = audit.table.loc[audit.table["kind"] == "no rule", "absorbed"].abs().sum()
    assert abs(audit.remainder) + named > 1e-3 * abs(audit.score)
