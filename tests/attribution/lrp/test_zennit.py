"""Equality with zennit in float64, on the models that zennit explains rightly.

zennit merges a batch norm into the convolution and leaves an identity batch norm behind it, which up to its
release 1.0 still divides by sqrt(1 + eps): its forward is not quite the network's. With eps = 0 nothing but
rounding is left.
"""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import torchvision.models as tv
from torch import nn
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
)
from zennit.torchvision import ResNetCanonizer

from shortcutscope.attribution.lrp import COMPOSITES, propagation
from shortcutscope.attribution.lrp.rules import ZBox

BOX = (-3.0, 3.0)
PAIRS = {
    "epsilon_plus": EpsilonPlus,
    "epsilon_plus_flat": EpsilonPlusFlat,
    "epsilon_gamma_box": lambda **options: EpsilonGammaBox(low=BOX[0], high=BOX[1], **options),
    "epsilon_alpha2_beta1": EpsilonAlpha2Beta1,
    "epsilon_alpha2_beta1_flat": EpsilonAlpha2Beta1Flat,
}
# Small enough that the two stabilisers, absolute there and relative here, make no difference.
EPSILON = 1e-9


def vgg(batch_norm):
    """As torchvision builds it, with a head of ordinary size."""
    features = tv.vgg.make_layers([16, 16, "M", 24, 24, "M", 32, "M"], batch_norm=batch_norm)
    head = [nn.Linear(32 * 4, 48), nn.ReLU(True), nn.Dropout(), nn.Linear(48, 7)]
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(2), nn.Flatten(), *head)


MODELS = {
    "vgg": (lambda: vgg(False), SequentialMergeBatchNorm),
    "vgg_bn": (lambda: vgg(True), SequentialMergeBatchNorm),
    "resnet18": (lambda: tv.resnet18(num_classes=7), ResNetCanonizer),
    "resnet bottleneck": (
        lambda: tv.ResNet(tv.resnet.Bottleneck, [1, 1, 1, 1], num_classes=7),
        ResNetCanonizer,
    ),
}


@pytest.fixture(scope="module")
def models():
    """Models with everything that training leaves: shifts, scales and running statistics."""
    built = {}
    for name, (build, _) in MODELS.items():
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            model = build().double().eval().requires_grad_(False)
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 1.5)
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0, 0.1)
        built[name] = model
    return built


def image():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double().clamp(*BOX)


def of_zennit(model, name, canonizer, x):
    composite = PAIRS[name](epsilon=EPSILON, stabilizer=EPSILON, canonizers=[canonizer()])
    with Gradient(copy.deepcopy(model), composite) as attributor:
        _, relevance = attributor(x.clone(), best_class)
    return relevance.detach()


def best_class(logits):
    """The logit of the largest class, in its place: where relevance begins."""
    chosen = torch.zeros_like(logits).scatter(1, logits.argmax(1, keepdim=True), 1)
    return (chosen * logits).detach()


def of_this_package(model, name, x):
    composite = dataclasses.replace(COMPOSITES[name], epsilon=EPSILON)
    if isinstance(composite.first, ZBox):
        composite = dataclasses.replace(composite, first=ZBox(*BOX))
    x = x.clone().requires_grad_()
    with propagation(composite) as run:
        score = model(x).amax(1)
    (gradient,) = torch.autograd.grad(score.sum(), x, allow_unused=True)
    return run.input_relevance(x, gradient).detach()


def relative_difference(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("model_name", MODELS)
def test_relevance_at_the_input_is_zennit_s(model_name, name, models):
    model, canonizer = models[model_name], MODELS[model_name][1]
    found = of_this_package(model, name, image())
    assert relative_difference(of_zennit(model, name, canonizer, image()), found) <= 1e-3


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("model_name", MODELS)
def test_without_batch_norm_s_epsilon_they_are_equal(model_name, name, models):
    model, canonizer = copy.deepcopy(models[model_name]), MODELS[model_name][1]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    found = of_this_package(model, name, image())
    assert relative_difference(of_zennit(model, name, canonizer, image()), found) <= 1e-6


def test_the_difference_is_in_zennit_s_forward(models):
    """A merged network's logits are off by the factors sqrt(1 + eps) in zennit 0.5, as ours never are."""
    model = models["vgg_bn"]
    x = image()
    merged = copy.deepcopy(model)
    assert SequentialMergeBatchNorm().apply(merged)
    off = relative_difference(merged(x), model(x))
    left = {module.eps for module in merged.modules() if isinstance(module, nn.BatchNorm2d)}
    assert left <= {0.0, 1e-5}  # zennit 1.0 takes it out itself
    assert off <= 1e-12 if left == {0.0} else 1e-7 < off < 1e-3
    with propagation(COMPOSITES["epsilon_plus"]):
        ours = model(x.clone().requires_grad_())
    assert relative_difference(ours.detach(), model(x)) <= 1e-12
    for module in merged.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    assert relative_difference(merged(x), model(x)) <= 1e-12
