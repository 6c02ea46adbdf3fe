"""The mode leaves nothing behind: not in the model, not in torch, and not from one sample to the next."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from model_states import model_state
from torch import nn
from torch.nn import functional as F  # noqa: N812

from shortcutscope.attribution.lrp import COMPOSITES, audit_defects, default_composite, propagation
from shortcutscope.errors import ModelError
from shortcutscope.models.frozen import frozen

FAMILIES = [
    "vgg16_bn",
    "resnet18",
    "densenet121",
    "mobilenet_v2",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "own_network",
]


def explain(model, x, composite):
    image = x.clone().requires_grad_()
    with propagation(composite) as run:
        logits = model(image)
    score = logits[:, 0]
    (gradient,) = torch.autograd.grad(score.sum(), image, allow_unused=True)
    return logits.detach(), run.input_relevance(image, gradient).detach()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_model_is_as_it_was(name, build):
    built, x = build(name)
    model = copy.deepcopy(built).requires_grad_(False)
    before = model_state(model)
    attributes = {n: dict(vars(p)) for n, p in [*model.named_parameters(), *model.named_buffers()]}
    image = x.clone()
    explain(model, x, default_composite(model, x))
    audit_defects(model, x, default_composite(model, x))
    assert model_state(model) == before
    assert {n: dict(vars(p)) for n, p in [*model.named_parameters(), *model.named_buffers()]} == attributes
    assert torch.equal(image, x)


def test_the_audit_gives_back_a_model_whose_parameters_train(build):
    built, x = build("own_network")
    model = copy.deepcopy(built).requires_grad_(True)
    before = model_state(model)
    audit_defects(model, x, COMPOSITES["epsilon_plus"])
    assert model_state(model) == before


class Fails(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        F.relu(self.conv(x), inplace=True)
        raise ValueError("in the middle of the forward pass")


def active_modes():
    return torch.overrides._get_current_function_mode_stack()


def test_nothing_stays_after_an_exception():
    model = Fails().eval()
    before = model_state(model)
    x = torch.randn(1, 3, 8, 8)
    with pytest.raises(ModelError, match="in the middle"), frozen(model), propagation(COMPOSITES["gamma"]):
        model(x.clone().requires_grad_())
    with pytest.raises(ValueError, match="in the middle"):
        audit_defects(model, x, COMPOSITES["gamma"])
    with pytest.raises(ValueError, match="in the middle"):
        default_composite(model, x)
    assert not active_modes()
    assert model_state(model) == before


def test_torch_is_as_it_was(build):
    model, x = build("vit_b_16")
    functional, tensor, top = dict(vars(F)), dict(vars(torch.Tensor)), dict(vars(torch))
    random = torch.get_rng_state()
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    with frozen(model):
        explain(model, x, COMPOSITES["attn"])
        audit_defects(model, x, COMPOSITES["epsilon_gamma"])
    assert dict(vars(F)) == functional
    assert dict(vars(torch.Tensor)) == tensor
    assert {key: value for key, value in vars(torch).items() if key in top} == top
    assert torch.equal(torch.get_rng_state(), random)
    assert (torch.is_grad_enabled(), torch.get_default_dtype()) == (grad, dtype)
    assert not active_modes()


def test_gradients_before_and_after_are_plain_ones(build):
    model, x = build("own_network")

    def gradient():
        image = x.clone().requires_grad_()
        return torch.autograd.grad(model(image)[:, 0].sum(), image)[0]

    with frozen(model):
        before = gradient()
        explain(model, x, COMPOSITES["epsilon_plus"])
        assert torch.equal(gradient(), before)
        with propagation(None) as run:
            assert torch.equal(gradient(), before)
        assert run is None


def test_other_threads_do_not_notice(build):
    """A worker that prepares batches meanwhile computes as ever."""
    x = torch.randn(4, 4)
    seen = []

    def work():
        leaf = x.clone().requires_grad_()
        seen.append(torch.autograd.grad(F.gelu(leaf).sum(), leaf)[0])

    with propagation(COMPOSITES["epsilon"]):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    work()
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("name", FAMILIES)
def test_backward_inside_and_after_the_mode_are_the_same(name, build):
    model, x = build(name, biases=True)
    composite = default_composite(model, x)
    with frozen(model):
        _, after = explain(model, x, composite)
        image = x.clone().requires_grad_()
        with propagation(composite) as run:
            (gradient,) = torch.autograd.grad(model(image)[:, 0].sum(), image)
            inside = run.input_relevance(image, gradient)
    assert torch.equal(inside, after)


@pytest.mark.parametrize("composite", [*sorted(COMPOSITES)])
@pytest.mark.parametrize("name", ["vgg16_bn", "mobilenet_v2", "convnext_tiny", "vit_b_16", "own_network"])
def test_a_sample_alone_is_as_in_a_batch(name, composite, build):
    """Also where its neighbour is a thousand times brighter: stabilisers and boxes are each sample's own."""
    model, x = build(name, biases=True)
    batch = torch.cat([x, 1000 * x[:1].flip(-1), torch.zeros_like(x[:1])])
    with frozen(model):
        logits, relevance = explain(model, batch, COMPOSITES[composite])
        for i in range(len(batch)):
            alone, expected = explain(model, batch[i : i + 1], COMPOSITES[composite])
            assert torch.allclose(logits[i], alone[0], rtol=1e-9)
            scale = expected.abs().max().clamp(min=1e-30)
            assert torch.isfinite(relevance[i]).all()
            assert (relevance[i] - expected[0]).abs().max() <= 1e-6 * scale


def test_the_same_run_twice_gives_the_same(build):
    for name in ("resnet18", "vit_b_16"):
        model, x = build(name, biases=True)
        with frozen(model):
            _, first = explain(model, x, default_composite(model, x))
            _, second = explain(model, x, default_composite(model, x))
        assert torch.equal(first, second)


def test_single_precision_is_close_to_double(build):
    for name in ("resnet18", "vgg16_bn", "mobilenet_v2", "vit_b_16"):
        built, x = build(name, biases=True)
        with frozen(built):
            composite = default_composite(built, x)
            _, expected = explain(built, x, composite)
        model = copy.deepcopy(built).float()
        with frozen(model):
            logits, found = explain(model, x.float(), composite)
        assert logits.dtype == found.dtype == torch.float32
        assert (found - expected).norm() <= 1e-2 * expected.norm(), name
