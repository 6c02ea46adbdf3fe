"""Conservation on every architecture, at the input and at every layer that all relevance has to pass.

With everything that adds a constant set to zero, no relevance may be lost or gained anywhere: stale tensors,
missed operations and unstable divisions all show here. Biases are then put back, and what is missing must be
named.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor, nn

from shortcutscope.attribution.lrp import COMPOSITES, audit_defects, default_composite, propagation
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer, find_layers


def scores(logits: Tensor) -> Tensor:
    """Of each sample the logit farthest from zero, so that shares of it are well defined."""
    return logits.gather(1, logits.detach().abs().argmax(1, keepdim=True)).squeeze(1)


def is_cut(model: nn.Module, x: Tensor, layer: Layer) -> bool:
    """Whether everything that the score knows of the image passes this layer."""
    module = model.get_submodule(layer.name)
    handle = module.register_forward_hook(lambda m, a, o: layer.replace(o, layer.pick(o).detach()))
    try:
        return not model(x.clone().requires_grad_()).requires_grad
    finally:
        handle.remove()


def relevance_sums(model, x, composite, layers):
    """Score and, for the input and each layer, the sum of relevance, sample by sample."""
    outputs: dict[str, Tensor] = {}

    def keep(layer):
        return lambda module, args, output: outputs.__setitem__(layer.name, layer.pick(output))

    with ExitStack() as stack:
        for layer in layers:
            handle = model.get_submodule(layer.name).register_forward_hook(keep(layer))
            stack.callback(handle.remove)
        image = x.clone().requires_grad_()
        run = stack.enter_context(propagation(composite))
        logits = model(image)
        score = scores(logits)
    first, *rest = torch.autograd.grad(
        score.sum(), [image, *(outputs[layer.name] for layer in layers)], allow_unused=True
    )
    sums = {"input": run.input_relevance(image, first).flatten(1).sum(1).detach()}
    for layer, gradient in zip(layers, rest, strict=True):
        relevance = outputs[layer.name].detach() * gradient
        sums[layer.name] = relevance.flatten(1).sum(1)
    return logits.detach(), score.detach(), sums


def assert_conserved(model, x, composite, tolerance, *, at_input_only=False):
    with frozen(model):
        layers = find_layers(model, x)
        cuts = [] if at_input_only else [layer for layer in layers if is_cut(model, x, layer)]
        logits, score, sums = relevance_sums(model, x, composite, cuts)
        with torch.enable_grad():
            plain = model(x.clone().requires_grad_())
    assert at_input_only or cuts, "no layer found that all relevance passes"
    assert (logits - plain).abs().max() <= 1e-12 * plain.abs().max()
    for name, total in sums.items():
        assert torch.isfinite(total).all(), name
        error = ((total - score) / score).abs().max()
        assert error <= tolerance, f"{composite.name} at {name}: {error:.1e} of the score are missing"


def test_default_composite_conserves_at_every_cut(architecture, build, attention_models):
    model, x = build(architecture)
    composite = default_composite(model, x)
    tolerance = 1e-2 if architecture in attention_models or "gamma" in composite.name else 1e-3
    assert_conserved(model, x, composite, tolerance)


def test_epsilon_conserves_exactly(architecture, build):
    """No stabiliser, no signs to choose by: what is missing would be a missed operation."""
    model, x = build(architecture)
    assert_conserved(model, x, COMPOSITES["epsilon"], 1e-9)


RELU_NETWORKS = [
    "alexnet", "vgg16", "vgg16_bn", "resnet18", "resnet50", "densenet121", "r3d_18", "timm_resnet18",
    "timm_resnet50d", "resnet1d", "own_network",
]  # fmt: skip


@pytest.mark.parametrize("name", RELU_NETWORKS)
def test_networks_of_relus_get_z_plus(name, build):
    model, x = build(name)
    assert default_composite(model, x).name == "epsilon_plus"


@pytest.mark.parametrize(
    "name", ["efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t", "mobilenet_v3_small"]
)
def test_networks_of_signed_activations_get_gamma(name, build):
    model, x = build(name)
    assert default_composite(model, x).name == "epsilon_gamma"


@pytest.mark.parametrize("composite", sorted(COMPOSITES))
@pytest.mark.parametrize("name", ["vgg16_bn", "resnet18", "resnet1d", "own_network"])
def test_every_composite_conserves_on_networks_of_relus(name, composite, build):
    model, x = build(name)
    assert_conserved(model, x, COMPOSITES[composite], 1e-3 if "gamma" not in composite else 1e-2)


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_gamma", "gamma"])
@pytest.mark.parametrize(
    "name", ["vit_b_16", "swin_t", "timm_vit_tiny", "timm_deit_tiny_distilled", "convnext_tiny"]
)
def test_other_composites_conserve_on_transformers(name, composite, build):
    model, x = build(name)
    assert_conserved(model, x, COMPOSITES[composite], 1e-2)


def test_defects_name_what_biases_absorb(architecture, build):
    """With real biases the whole difference is attributed to operations, and nothing remains."""
    model, x = build(architecture, biases=True)
    composite = default_composite(model, x)
    with frozen(model):
        logits, score, sums = relevance_sums(model, x, composite, [])
    audit = audit_defects(model, x, composite, target=logits.abs().argmax(1))
    assert audit.score == pytest.approx(float(score.sum()), rel=1e-9)
    size = max(abs(audit.score), abs(audit.input_relevance), audit.table["absorbed"].abs().max())
    assert abs(audit.input_relevance - float(sums["input"].sum())) <= 1e-6 * size
    assert (
        abs(audit.score - audit.input_relevance - audit.table["absorbed"].sum() - audit.remainder)
        <= 1e-9 * size
    )
    assert abs(audit.remainder) <= 1e-9 * size
    unruled = audit.table[audit.table["kind"] == "no rule"]
    assert unruled["absorbed"].abs().sum() <= 1e-9 * size, unruled


def test_without_biases_nothing_absorbs(architecture, build):
    model, x = build(architecture)
    composite = dataclasses.replace(COMPOSITES["epsilon"], name="plain")
    audit = audit_defects(model, x, composite)
    assert audit.table["absorbed"].abs().sum() <= 1e-9 * abs(audit.score)


def test_attention_by_attnlrp_is_finite(attention_models, build):
    """AttnLRP lets relevance through the softmax, whose gradient does not conserve."""
    for name in sorted(attention_models):
        model, x = build(name)
        with frozen(model):
            logits, _, sums = relevance_sums(model, x, COMPOSITES["attn"], [])
            plain = model(x.clone().requires_grad_())
        assert torch.isfinite(sums["input"]).all()
        assert (logits - plain).abs().max() <= 1e-12 * plain.abs().max()


@pytest.mark.slow
def test_full_size_networks_conserve_at_every_cut(full_architecture, build, attention_models):
    model, x = build(full_architecture, full=True)
    composite = default_composite(model, x)
    tolerance = 1e-2 if full_architecture in attention_models or "gamma" in composite.name else 1e-3
    assert_conserved(model, x, composite, tolerance)
