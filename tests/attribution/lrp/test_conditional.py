from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from model_states import model_state
from torch import Tensor, nn
from torch.nn import functional

from shortcutscope.attribution.lrp import COMPOSITES, functions, propagation
from shortcutscope.attribution.lrp.conditional import (
    AttentionHead,
    Channels,
    Direction,
    conditional_relevance,
)
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers

EPSILON = COMPOSITES["epsilon"]
PLUS = COMPOSITES["epsilon_plus"]
HEADS = {
    "timm_vit_tiny": ("blocks.1.attn", 3),
    "vit_b_16": ("encoder.layers.encoder_layer_1.self_attention", 3),
    "swin_t": ("features.3.1.attn", 4),
}


class SignedNet(nn.Module):
    """Layers of both signs, a folded batch norm, and a convolution whose output goes two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(6, 5, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.norm(self.stem(x)))
        k = self.conv(h)
        return self.head(functional.relu(self.norm2(k) + 0.5 * k).mean((2, 3)))


def signed_net() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SignedNet().double().eval()
        for norm in (model.norm, model.norm2):
            norm.running_mean.normal_(0, 0.1)
            norm.weight.data.normal_()
        return model, torch.randn(2, 1, 8, 8, dtype=torch.float64)


def slow_relevance(model, x, composite, names, gradient_at=None, mask=None):
    """Relevance of modules' outputs from one plain backward pass, with `mask` put on one of them by hand."""
    kept = {}

    def keep(name):
        def hook(module, inputs, output):
            masked = mask is not None and name == gradient_at
            # A hook also where nothing is masked: it has folded batch norms show what they take past.
            output.register_hook(lambda g: g * mask if masked else None)
            kept[name] = output

        return hook

    leaf = x.clone().requires_grad_()
    with frozen(model):
        for name in names:
            model.get_submodule(name).register_forward_hook(keep(name))
        with propagation(composite) as run:
            score = model(leaf.clone()).amax(1).sum()
        gradient, *others = torch.autograd.grad(score, [leaf, *kept.values()], allow_unused=True)
    relevance = run.input_relevance(leaf, gradient).detach()
    found = {n: (t * g).detach() for (n, t), g in zip(kept.items(), others, strict=True)}
    return relevance, found


def close(a: Tensor, b: Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * float(b.abs().max()) + 1e-15)


@pytest.mark.parametrize("composite", [EPSILON, PLUS, COMPOSITES["epsilon_plus_flat"]], ids=lambda c: c.name)
def test_channel_sets_that_cover_a_layer_add_up_to_the_whole(build, composite):
    model, x = build("resnet18", biases=True)
    names = ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    whole, layers = slow_relevance(model, x, composite, names)
    sets = [range(0, 100), [100], range(101, 256)]
    parts = [
        conditional_relevance(model, x, Channels("layer3.0", s), names, composite=composite) for s in sets
    ]
    # z+ is linear in the relevance but for its stabiliser, which depends on the activations alone.
    close(sum(p.input for p in parts), whole)
    for name in ("layer1.0", "layer2.0", "layer3.0"):
        close(sum(p.channels[name] for p in parts), layers[name].sum((2, 3)))
    close(sum(p.start for p in parts), layers["layer3.0"].sum((1, 2, 3)))
    for part in parts:
        close(part.channels["layer4.0"], layers["layer4.0"].sum((2, 3)))
        assert not part.input.equal(whole)
        assert part.kept.tolist() == [1, 1]


def test_each_channel_equals_a_backward_pass_of_its_own(build):
    """In a chain, where nothing goes around the layer, a mask in one whole backward pass is the same."""
    model, x = build("vgg16", biases=True)
    layer, below, channels = "0.4", "0.1", 12
    for composite in (PLUS, EPSILON):
        for c in range(channels):
            mask = torch.zeros(1, channels, 1, 1, dtype=x.dtype)
            mask[:, c] = 1
            slow_input, slow = slow_relevance(model, x, composite, [below, layer], layer, mask)
            fast = conditional_relevance(
                model, x, Channels(layer, [c]), [below, layer], composite=composite, maps=True
            )
            close(fast.input, slow_input)
            close(fast.channels[below], slow[below].sum((2, 3)))
            close(fast.maps[below], slow[below].sum(1))
            assert fast.channels[layer].count_nonzero(1).max() <= 1
            close(fast.channels[layer].sum(1), fast.start)


def test_relevance_of_a_channel_is_what_passes_through_it(build):
    """Relevance per channel from one pass, and a condition met after another: the same numbers."""
    model, x = build("resnet18")
    above = Channels("layer3.0", range(40))
    one_pass = conditional_relevance(model, x, above, ["layer1.0"], composite=EPSILON).channels["layer1.0"]
    for c in (0, 17, 63):
        both = conditional_relevance(
            model, x, [Channels("layer1.0", [c]), above], ["layer1.0", "layer2.0"], composite=EPSILON
        )
        close(both.start, one_pass[:, c])
        close(both.input.sum((1, 2, 3)), one_pass[:, c], 1e-6)  # without biases nothing is lost


def test_relevance_around_a_condition_does_not_count(build):
    """A convolution within a residual block carries only what passes it, not the shortcut's relevance."""
    model, x = build("resnet18")
    inside = conditional_relevance(
        model, x, Channels("layer2.0.conv1", range(128)), ["layer1.0", "layer3.0"], composite=EPSILON
    )
    close(inside.input.sum((1, 2, 3)), inside.start, 1e-6)
    whole, layers = slow_relevance(model, x, EPSILON, ["layer1.0", "layer2.0.downsample.0", "layer3.0"])
    close(inside.channels["layer3.0"], layers["layer3.0"].sum((2, 3)))
    shortcut = layers["layer2.0.downsample.0"].sum((1, 2, 3))
    assert shortcut.abs().min() > 1e-3 * whole.abs().sum()
    close(inside.start + shortcut, whole.sum((1, 2, 3)), 1e-6)


@pytest.mark.parametrize("recorded", [["act"], ["stem", "act", "conv", "norm2"]])
def test_convolutions_with_a_folded_batch_norm_and_a_second_use(recorded):
    model, x = signed_net()
    for composite in (PLUS, EPSILON, COMPOSITES["gamma"]):
        whole, _ = slow_relevance(model, x, composite, [])
        sets = [[0, 2], [1, 3, 4]]
        parts = [
            conditional_relevance(model, x, Channels("conv", s), recorded, composite=composite) for s in sets
        ]
        # The stabiliser sees a convolution's output before or behind its ReLU, whichever the network kept.
        close(parts[0].input + parts[1].input, whole, 1e-6)
        stem = [
            conditional_relevance(model, x, Channels("stem", [c]), recorded, composite=composite).input
            for c in range(6)
        ]
        close(torch.stack(stem).sum(0), whole, 1e-6)
        if "conv" in recorded:
            _, layers = slow_relevance(model, x, composite, ["conv"])
            close(sum(p.channels["conv"] for p in parts), layers["conv"].sum((2, 3)), 1e-6)
            assert parts[0].channels["conv"][:, sets[1]].count_nonzero() == 0


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("attention", ["cp", "attn"])
def test_heads_add_up_to_the_attention(build, name, attention):
    model, x = build(name, biases=True)
    module, heads = HEADS[name]
    composite = replace(EPSILON, attention=attention)
    parts = [
        conditional_relevance(model, x, AttentionHead(module, h), composite=composite) for h in range(heads)
    ]
    assert len({round(float(p.start[0]), 12) for p in parts}) == heads

    # All heads: the relevance of the attention's output, which the next linear layer reads.
    projection = {"timm_vit_tiny": ".proj", "vit_b_16": "", "swin_t": ""}[name]
    whole = conditional_relevance(
        model, x, Channels(module + projection, range(_width(model, module))), composite=composite
    )
    close(sum(p.input for p in parts), whole.input, 1e-8)
    top = list(parts[0].channels)[-1]
    for part in parts:
        close(part.channels[top], whole.channels[top])


def _width(model: nn.Module, module: str) -> int:
    found = model.get_submodule(module)
    return next(p.shape[0] for n, p in found.named_parameters() if n in ("proj.weight", "out_proj.weight"))


def test_a_head_of_explicit_attention_and_of_packed_batches(build):
    """The same head through fused attention, and with samples and heads in one dimension (need_weights)."""

    class Attend(nn.Module):
        def __init__(self, weights: bool) -> None:
            super().__init__()
            self.embed = nn.Conv1d(2, 6, 1)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.head = nn.Linear(6, 3)
            self.weights = weights

        def forward(self, x: Tensor) -> Tensor:
            t = self.embed(x).transpose(1, 2)
            out, _ = self.attention(t, t, t, need_weights=self.weights)
            return self.head((t + out).mean(1))

    torch.manual_seed(0)
    explicit, fused = Attend(True).double(), Attend(False).double()
    fused.load_state_dict(explicit.state_dict())
    x = torch.randn(3, 2, 7, dtype=torch.float64)
    for head in range(2):
        results = [
            conditional_relevance(m, x, AttentionHead("attention", head), ["embed"], composite=EPSILON)
            for m in (explicit, fused)
        ]
        close(results[0].input, results[1].input)
        close(results[0].channels["embed"], results[1].channels["embed"])
        assert results[0].start.abs().min() > 0


def test_the_signed_start_conserves_the_concept_score(build):
    model, x = build("resnet18")
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(128, generator=generator, dtype=x.dtype)
    # In front of the block's last rectification activations have both signs.
    for name in ("layer2.0", "layer2.0.bn2"):
        layer = find_layers(model, x, [name])[0]
        activations = _activations(model, x, name)
        score = torch.einsum("nchw,c->n", activations, direction)
        found = conditional_relevance(
            model, x, Direction(name, direction), [name, "layer1.0", "layer3.0"], composite=EPSILON
        )
        close(found.start, score)
        close(found.channels[name], activations.sum((2, 3)) * direction)
        close(found.input.sum((1, 2, 3)), score, 1e-6)  # no biases
        close(found.channels["layer1.0"].sum(1), score, 1e-6) if name == "layer2.0" else None
        assert found.channels["layer3.0"].count_nonzero() == 0
        assert found.target is None
        assert found.kept.tolist() == [1, 1]
        assert layer.channels == 128
    # The field's start on signed activations: the summands of negative activations are gone.
    clamped = torch.einsum("nchw,c->n", activations.clamp(min=0), direction)
    lost = (activations.clamp(max=0) * direction[:, None, None]).abs().sum((1, 2, 3))
    assert (lost > 0.2 * (activations * direction[:, None, None]).abs().sum((1, 2, 3))).all()
    assert ((clamped - score).abs() > 0.1 * score.abs()).all()


def _activations(model: nn.Module, x: Tensor, name: str) -> Tensor:
    kept = []
    handle = model.get_submodule(name).register_forward_hook(lambda m, i, o: kept.append(o.clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return kept[0]


class Brightness(nn.Module):
    """One layer of two channels: an edge detector that the artifact leaves alone, and mean brightness."""

    def __init__(self, rectify: bool, offset: float) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, 3, padding=1)
        self.act = nn.ReLU() if rectify else nn.Identity()
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.features.weight[0] = torch.tensor([[0.0, 0, 0], [-1, 2, -1], [0, 0, 0]])
            self.features.weight[1] = 1 / 9
            self.features.bias.copy_(torch.tensor([0, offset]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.features(x)).mean((2, 3)))


def darkened() -> tuple[Tensor, Tensor, tuple[slice, slice]]:
    """Grey images of slight texture, the same with a darker square, and where it lies."""
    generator = torch.Generator().manual_seed(0)
    clean = 1 + 0.01 * torch.randn(4, 1, 12, 12, generator=generator, dtype=torch.float64)
    artifact, square = clean.clone(), (slice(3, 8), slice(3, 8))
    artifact[:, 0, *square] *= 0.3
    return clean, artifact, square


def test_an_artifact_that_lowers_a_channel_is_positive_evidence():
    clean, artifact, square = darkened()
    model = Brightness(rectify=True, offset=0).double()
    activation, reference = _activations(model, artifact, "act"), _activations(model, clean, "act").mean(0)
    direction = torch.tensor([0.0, -1.0], dtype=torch.float64)  # the artifact lowers the second channel
    inside = torch.zeros(12, 12, dtype=torch.bool)
    inside[square] = True
    layers = ["features", "act"]

    # The field's start, clamp(a, 0) v: nothing positive anywhere, and least relevance where the artifact is.
    start = (activation.clamp(min=0) * direction[:, None, None]).sum(1)
    assert start.max() <= 0
    assert start[:, inside].abs().mean() < 0.7 * start[:, 1:-1, 1:-1].abs().mean()
    assert float(start.clamp(min=0).sum()) == 0  # what is left after the recipe's clamp at the input

    # The signed start alone is the score of the direction, negative here as well.
    plain = conditional_relevance(model, artifact, Direction("act", direction), layers, composite=EPSILON)
    assert (plain.start < 0).all()

    found = conditional_relevance(
        model, artifact, Direction("act", direction, reference), layers, composite=EPSILON, maps=True
    )
    expected = ((activation - reference) * direction[:, None, None]).sum((1, 2, 3))
    close(found.start, expected)
    assert (found.start > 0).all()
    assert found.kept.tolist() == [1] * 4
    grid = found.maps["act"].clamp(min=0)
    assert (grid[:, inside].sum(1) > 0.7 * grid.sum((1, 2))).all()
    pixels = found.input.sum(1)
    assert (pixels[:, inside].mean(1) > 3 * pixels[:, ~inside].mean(1).abs()).all()
    # The same for a mean over positions as reference.
    pooled = conditional_relevance(
        model,
        artifact,
        Direction("act", direction, reference.mean((1, 2))),
        layers,
        composite=EPSILON,
        maps=True,
    )
    assert (pooled.maps["act"][:, inside].mean(1) > 0).all()


def test_what_zero_activations_cannot_carry_is_told():
    clean, artifact, _ = darkened()
    direction = torch.tensor([0.0, -1.0], dtype=torch.float64)
    # The artifact puts the channel below zero, so the ReLU leaves nothing of it.
    model = Brightness(rectify=True, offset=-0.5).double()
    reference = _activations(model, clean, "act").mean(0)
    activation = _activations(model, artifact, "act")
    summands = ((activation - reference) * direction[:, None, None]).sum(1).abs()
    dead = activation[:, 1] == 0
    assert dead.any((1, 2)).all()
    behind = conditional_relevance(
        model, artifact, Direction("act", direction, reference), ["act"], composite=EPSILON
    )
    close(behind.kept, 1 - (summands * dead).sum((1, 2)) / summands.sum((1, 2)))
    assert (behind.kept < 0.9).all()
    # In front of it nothing is lost.
    reference = _activations(model, clean, "features").mean(0)
    front = conditional_relevance(
        model, artifact, Direction("features", direction, reference), ["features"], composite=EPSILON
    )
    assert front.kept.tolist() == [1] * 4
    assert (front.start > behind.start).all()
    # With nothing to explain nothing is lost.
    none = Direction("act", torch.zeros(2), reference)
    silent = conditional_relevance(model, artifact, none, ["act"], composite=EPSILON)
    assert silent.kept.tolist() == [1] * 4
    assert silent.input.count_nonzero() == 0


def test_directions_in_tokens(build):
    model, x = build("timm_vit_tiny")
    activations = _activations(model, x, "blocks.1")
    direction = torch.linspace(-1, 1, 24, dtype=x.dtype)
    grid = conditional_relevance(model, x, Direction("blocks.1", direction), composite=EPSILON, maps=True)
    close(grid.start, (activations[:, 1:] @ direction).sum(1))
    close(grid.maps["blocks.1"].flatten(1), activations[:, 1:] @ direction)
    token = conditional_relevance(
        model, x, Direction("blocks.1", direction, tokens="class"), composite=EPSILON
    )
    close(token.start, activations[:, 0] @ direction)
    close(token.input.sum((1, 2, 3)), token.start, 1e-6)
    assert grid.channels["blocks.2"].count_nonzero() == 0
    both = [AttentionHead("blocks.1.attn", 2), Direction("blocks.1", direction, tokens="class")]
    head = conditional_relevance(model, x, both, composite=EPSILON)
    assert (head.start != token.start).all()


def test_samples_do_not_depend_on_their_batch(build):
    model, x = build("resnet18", biases=True)
    condition = [Channels("layer3.0", range(9)), Channels("layer2.0", range(64))]
    together = conditional_relevance(model, x, condition)
    assert together.composite.name == "epsilon_plus"
    for i in range(2):
        alone = conditional_relevance(model, x[i : i + 1], condition)
        close(together.input[i], alone.input[0])
        close(together.start[i], alone.start[0])


def test_explains_the_class_asked_for(build):
    model, x = build("resnet18", biases=True)
    condition = Channels("layer4.0", range(512))
    logits = model(x).detach()
    found = conditional_relevance(
        model, x, condition, explained=Explained("label", labels=torch.tensor([4, 0]))
    )
    assert found.target is not None
    assert found.target.tolist() == [4, 0]
    bias = model.fc.bias.detach()[[4, 0]]
    close(found.start, logits[[0, 1], [4, 0]] - bias)


def test_single_precision_and_bfloat16(build):
    model, x = signed_net()
    exact = conditional_relevance(model, x, Channels("act", [1, 2]), ["act"], composite=PLUS)
    model, x = model.float(), x.float()
    single = conditional_relevance(model, x, Channels("act", [1, 2]), ["act"], composite=PLUS)
    assert single.input.dtype == torch.float32
    close(single.input.double(), exact.input, 1e-3)
    half = conditional_relevance(
        model.bfloat16(), x.bfloat16(), Channels("act", [1, 2]), ["act"], composite=PLUS
    )
    assert half.input.dtype == half.channels["act"].dtype == half.start.dtype == torch.float32


def test_all_stages_together_cost_one_backward_pass(build, monkeypatch):
    model, x = build("resnet18")
    calls = []
    propagate = functions._propagate
    monkeypatch.setattr(functions, "_propagate", lambda *args: calls.append(1) or propagate(*args))
    slow_relevance(model, x, PLUS, [])
    whole = len(calls)
    calls.clear()
    conditions = [Channels(f"layer{i}.0", range(5)) for i in (1, 2, 3, 4)]
    conditional_relevance(model, x, conditions, composite=PLUS)
    assert len(calls) == whole > 10


def test_conditions_take_arrays(build):
    model, x = build("resnet18")
    direction = torch.linspace(-1, 1, 64)
    tensors = conditional_relevance(model, x, Direction("layer1.0", direction, 0.1 * direction), [])
    arrays = Direction("layer1.0", direction.numpy(), (0.1 * direction).numpy())
    close(conditional_relevance(model, x, arrays, []).input, tensors.input)
    channels = conditional_relevance(model, x, Channels("layer1.0", torch.tensor([1, 5])), ["layer1.0"])
    assert channels.channels["layer1.0"].any(0).nonzero().flatten().tolist() == [1, 5]


def test_the_model_comes_back_as_it_was():
    model, x = signed_net()
    model.train()
    before = model_state(model)
    conditional_relevance(model, x, Channels("conv", [0]))
    conditional_relevance(model, x, Direction("act", torch.ones(6)))
    assert model_state(model) == before
    for condition in (AttentionHead("conv", 0), [Channels("conv", [0]), Direction("act", torch.ones(6))]):
        with pytest.raises((InputError, ModelError)):
            conditional_relevance(model, x, condition)
    assert model_state(model) == before
    assert not x.requires_grad


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ([], "no condition"),
        (Channels("layer9", [0]), "no layer 'layer9'"),
        (Channels("conv", []), "0 to 4"),
        (Channels("conv", [5]), "0 to 4"),
        (Channels("conv", [-1]), "0 to 4"),
        (Direction("conv", torch.ones(6)), "must be \\(5,\\)"),
        (Direction("conv", torch.tensor([1, 2, 3, 4, float("nan")])), "direction .* NaN"),
        (Direction("conv", torch.ones(5), torch.ones(4)), "reference .* \\(5,\\) and \\(5, 8, 8\\)"),
        (Direction("conv", torch.ones(5), tokens="class"), "no class token"),
        (Direction("conv", torch.ones(5), tokens="all"), "'grid' and 'class'"),
        ([Channels("conv", [0]), Channels("conv", [1])], "two conditions at 'conv'"),
        ([Channels("conv", [0]), Direction("act", torch.ones(6))], "above the direction"),
    ],
)
def test_refuses_what_does_not_fit(condition, message):
    model, x = signed_net()
    with pytest.raises(InputError, match=message):
        conditional_relevance(model, x, condition)


def test_refuses_heads_that_are_not_there(build):
    model, x = build("timm_vit_tiny")
    with pytest.raises(InputError, match="0 to 2"):
        conditional_relevance(model, x, AttentionHead("blocks.0.attn", 3))
    with pytest.raises(ModelError, match="computes no attention"):
        conditional_relevance(model, x, AttentionHead("blocks.0.mlp", 0))
    with pytest.raises(ModelError, match="several attentions"):
        conditional_relevance(model, x, AttentionHead("blocks", 0))
    with pytest.raises(InputError, match="no layer"):
        conditional_relevance(model, x, AttentionHead("blocks.7.attn", 0))


def test_refuses_conditions_that_do_not_follow_each_other(build):
    model, x = build("resnet18")
    side = [Channels("layer2.0.conv2", [0]), Channels("layer2.0.downsample.0", [0])]
    with pytest.raises(InputError, match=r"no relevance gets from .* to"):
        conditional_relevance(model, x, side)
