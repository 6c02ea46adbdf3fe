import warnings
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_states import model_state
from torch import Tensor, nn

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.blocks import MOST, THINNED, thinned
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer, choose_layers, find_layers
from shortcutscope.models.layouts import _token_grid
from shortcutscope.models.tracing import Call
from shortcutscope.planting.thin import BasicBlock, thin_cnn1d, thin_cnn3d, thin_resnet18

STAGES_2222 = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
DEPTHS_RESNET50 = {1: 3, 2: 4, 3: 6, 4: 3}
DEPTHS_SWIN = {1: 2, 3: 2, 5: 6, 7: 2}
DEPTHS_CONVNEXT = {1: 3, 3: 3, 5: 9, 7: 3}
DEPTHS_EFFICIENTNET = {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 1}


def features(*numbers):
    return [f"features.{number}" for number in numbers]


EXPECTED = {
    "resnet18": ["maxpool", *STAGES_2222],
    "timm_resnet18": ["maxpool", *STAGES_2222],
    "resnet50": ["maxpool", *(f"layer{s}.{b}" for s, n in DEPTHS_RESNET50.items() for b in range(n))],
    "vgg16": [
        *features(1, 4, 6, 9, 11, 13, 16, 18, 20, 23, 25, 27, 30),
        "classifier.1",
        "classifier.4",
    ],
    "vgg16_bn": [
        *features(2, 6, 9, 13, 16, 19, 23, 26, 29, 33, 36, 39, 43),
        "classifier.1",
        "classifier.4",
    ],
    "alexnet": [*features(2, 5, 7, 9, 12), "classifier.2", "classifier.5"],
    "densenet121": features(
        "pool0", "denseblock1", "transition1.pool", "denseblock2", "transition2.pool",
        "denseblock3", "transition3.pool", "denseblock4",
    ),
    "mobilenet_v2": features("0.2", *range(1, 18), "18.2"),
    "efficientnet_b0": features(
        "0.2", *(f"{s}.{b}" for s, n in DEPTHS_EFFICIENTNET.items() for b in range(n)), "8.2"
    ),
    "convnext_tiny": features(
        "0.1",
        *(x for s, n in DEPTHS_CONVNEXT.items() for x in [*(f"{s}.{b}" for b in range(n)), f"{s + 1}.1"]),
    )[:-1],
    "vit_b_16": ["conv_proj", *(f"encoder.layers.encoder_layer_{i}" for i in range(12))],
    "swin_t": features(
        "0.2", *(x for s, n in DEPTHS_SWIN.items() for x in [*(f"{s}.{b}" for b in range(n)), f"{s + 1}"])
    )[:-1],
    "r3d_18": ["stem.2", *STAGES_2222],
    "timm_vit_tiny": ["patch_embed.proj", *(f"blocks.{i}" for i in range(12))],
    "conv1d": features(3, 5),
    "reused_relu": ["norm1", "conv2"],
    "tuple": ["stem", "cells.0", "cells.1"],
}  # fmt: skip
LAYOUTS = {
    "vgg16": ["NCHW"] * 13 + ["vector"] * 2,
    "vgg16_bn": ["NCHW"] * 13 + ["vector"] * 2,
    "alexnet": ["NCHW"] * 5 + ["vector"] * 2,
    "vit_b_16": ["NCHW"] + ["tokens"] * 12,
    "timm_vit_tiny": ["NCHW"] + ["tokens"] * 12,
    "swin_t": ["NHWC"] * 16,
    "r3d_18": ["NCDHW"] * 9,
    "conv1d": ["NCL"] * 2,
}


def by_name(layers):
    return {layer.name: layer for layer in layers}


def test_blocks_of_every_architecture(architecture, build):
    model, x = build(architecture)
    model.train()
    before = model_state(model)
    layers = find_layers(model, x)
    assert model_state(model) == before
    names, blocks = [layer.name for layer in layers], EXPECTED[architecture]
    if len(blocks) > MOST:
        assert (len(names), names[0], names[-1]) == (THINNED, blocks[0], blocks[-1])
        assert names == [name for name in blocks if name in names]
    else:
        assert names == blocks
    assert [layer.layout for layer in layers] == LAYOUTS.get(architecture, ["NCHW"] * len(layers))
    depths = [layer.depth for layer in layers]
    assert depths == sorted(set(depths))
    assert depths[0] > 0
    assert depths[-1] <= 1


class FacingStage(nn.Module):
    """Blocks in a Sequential that are called one by one, as transformers' ResNet does."""

    def __init__(self, width, blocks):
        super().__init__()
        self.layers = nn.Sequential(*(thin_block(width) for _ in range(blocks)))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def thin_block(width):
    return BasicBlock(width, width, 1, 2)


class Facing(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedder = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU())
        self.stages = nn.ModuleList(FacingStage(4, blocks) for blocks in (3, 4, 6, 3))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.embedder(x)
        for stage in self.stages:
            x = stage(x)
        return {"logits": self.head(x.mean((2, 3)))}


def test_m15_blocks_that_are_called_one_by_one_are_layers():
    names = [layer.name for layer in find_layers(Facing(), torch.rand(2, 1, 16, 16))]
    assert names == [
        "embedder.1",
        *(f"stages.{s}.layers.{b}" for s, n in enumerate((3, 4, 6, 3)) for b in range(n)),
    ]


def test_m15_a_flat_network_has_some_layers_spread_over_its_depth():
    """As converters of other formats write them: one module after another, without blocks."""
    flat = nn.Sequential()
    for k in range(75):
        flat.add_module(f"conv_{k}", nn.Conv2d(1 if k == 0 else 2, 2, 3, padding=1))
        flat.add_module(f"relu_{k}", nn.ReLU())
    flat.add_module("pool", nn.AdaptiveAvgPool2d(1))
    flat.add_module("flatten", nn.Flatten())
    flat.add_module("fc", nn.Linear(2, 2))
    model = torch.fx.symbolic_trace(flat)
    made = choose_layers(model, torch.rand(2, 1, 8, 8))
    assert len(made.layers) == THINNED
    assert made.note == "16 of 75 blocks, evenly spaced in depth; name others with layers"
    assert (made.layers[0].name, made.layers[-1].name) == ("relu_0", "relu_74")
    gaps = np.diff([layer.depth for layer in made.layers])
    assert gaps.max() < 1.5 * gaps.min()
    assert len(find_layers(model, torch.rand(2, 1, 8, 8), "relu_*")) == 75


@given(st.lists(st.integers(1, 5), min_size=1, max_size=90))
def test_m15_thinning_keeps_the_ends_and_the_order(steps):
    calls = [Call(str(k), nn.Identity(), leaves=leaves) for k, leaves in enumerate(accumulate(steps))]
    kept = thinned(calls)
    assert len(kept) == (len(calls) if len(calls) <= MOST else THINNED)
    assert kept == [call for call in calls if call in kept]
    assert (kept[0], kept[-1]) == (calls[0], calls[-1])


def test_layers_describe_what_the_hooks_see(architecture, build):
    """Shapes, channel axes and the way into the output, against a plain forward with hooks."""
    model, x = build(architecture)
    layers = find_layers(model, x, "all")
    assert set(EXPECTED[architecture]) <= {layer.name for layer in layers}
    seen = {}
    with frozen(model), torch.no_grad():
        for layer in layers:
            module = model.get_submodule(layer.name)
            module.register_forward_hook(lambda m, a, out, layer=layer: seen.__setitem__(layer, out))
        model(x.clone())
    for layer in layers:
        tensor = layer.pick(seen[layer])
        assert tuple(tensor.shape) == (2, *layer.shape), layer
        assert tuple(layer.channels_first(tensor).shape) == (2, layer.channels, *layer.grid), layer
        module = model.get_submodule(layer.name)
        if isinstance(module, nn.modules.conv._ConvNd):
            assert layer.channels == module.out_channels
        if isinstance(module, nn.Linear):
            assert layer.channels == module.out_features


def test_prefix_tokens_are_dropped_and_positions_stay_in_place(build):
    for name in ("vit_b_16", "timm_vit_tiny"):
        model, x = build(name)
        block = find_layers(model, x)[1]
        assert (block.prefix_tokens, block.grid) == (1, (2, 2))
        tokens = torch.arange(5.0).reshape(1, 5, 1).expand(1, 5, 3)
        assert block.channels_first(tokens)[0, 0].tolist() == [[1, 2], [3, 4]]


def test_channels_last_maps_become_channels_first(build):
    model, x = build("swin_t")
    layer = find_layers(model, x)[0]
    t = torch.rand(2, *layer.shape)
    assert torch.equal(layer.channels_first(t), t.permute(0, 3, 1, 2))
    assert layer.spatial


def test_a_vector_layer_has_no_positions(build):
    layer = find_layers(*build("alexnet"))[-1]
    assert (layer.layout, layer.channels, layer.grid, layer.spatial) == ("vector", 4096, (), False)
    t = torch.rand(2, 4096)
    assert torch.equal(layer.channels_first(t), t)


def test_users_module_with_tuple_outputs(build):
    model, x = build("tuple")
    layer = by_name(find_layers(model, x))["cells.1"]
    assert layer.output == (0,)
    a, b, count = torch.rand(2, 5, 4, 4), torch.rand(2, 5, 4, 4), torch.tensor(2)
    assert layer.pick((a, count)) is a
    replaced = layer.replace((a, count), b)
    assert replaced[0] is b
    assert replaced[1] is count


def test_users_module_that_reuses_works_in_place_and_returns_a_dict(build):
    model, x = build("reused_relu")
    image = x.clone()
    layers = by_name(find_layers(model, x, "all"))
    assert torch.equal(x, image)  # the model subtracts from its input in place
    assert set(layers) == {"conv1", "norm1", "conv2", "head"}  # neither the reused ReLU nor the other head
    assert layers["conv2"].overwritten  # by `g += h`
    assert not layers["conv1"].overwritten  # in-place modules are switched off
    with pytest.raises(ModelError, match=r"'relu' runs 2 times.*before.*'norm1', 'conv2'"):
        find_layers(model, x, ["relu"])
    with pytest.raises(ModelError, match=r"'aux' has no differentiable effect.*output="):
        find_layers(model, x, ["aux"])
    assert "aux" in by_name(find_layers(model, x, "all", output="aux"))


def test_a_reused_module_inside_a_block_names_the_block():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x):
            return self.act(self.conv(self.act(x)))

    model = nn.Sequential(Block(), Block(), nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(ModelError, match=r"'1\.act' runs 2 times.*around.*'1'$"):
        find_layers(model, torch.rand(2, 3, 2, 2), ["1.act"])


def test_names_patterns_and_predicates(build):
    model, x = build("resnet18")

    def names(choice):
        return [layer.name for layer in find_layers(model, x, choice)]

    assert names(["layer2.0", "conv1"]) == ["conv1", "layer2.0"]  # in the order in which they run
    assert names("layer3") == ["layer3"]
    assert names(["layer3.*"]) == ["layer3.0", "layer3.1"]
    assert names("layer?.1.conv2") == [f"layer{i}.1.conv2" for i in (1, 2, 3, 4)]
    assert names("**.downsample") == [f"layer{i}.0.downsample" for i in (2, 3, 4)]
    assert names(lambda name, module: isinstance(module, nn.Linear)) == ["fc"]
    for choice, text in (
        (["layer3.O"], r"'layer3\.O'.*did you mean.*'layer3\.0'"),
        (["layer9.*"], r"'layer9\.\*' matches no module"),
        ([], "allowed are 'blocks'"),
        ([3], "allowed are 'blocks'"),
    ):
        with pytest.raises(InputError, match=text):
            find_layers(model, x, choice)
    with pytest.raises(ModelError, match="no layer found"):
        find_layers(model, x, lambda name, module: False)


def test_a_container_that_is_never_called(build):
    model, x = build("tuple")
    with pytest.raises(ModelError, match="'cells' never runs"):
        find_layers(model, x, ["cells"])


def test_layouts_can_be_overridden(build):
    model, x = build("timm_vit_tiny")
    layers = by_name(find_layers(model, x, layouts={"blocks.0": "tokens:2", "blocks.1": "NCL"}))
    assert (layers["blocks.0"].prefix_tokens, layers["blocks.0"].grid) == (2, (3,))
    assert (layers["blocks.1"].layout, layers["blocks.1"].channels) == ("NCL", 5)
    assert layers["blocks.2"].prefix_tokens == 1
    model, x = build("resnet18")
    assert by_name(find_layers(model, x, layouts={"layer1.0": "NHWC"}))["layer1.0"].channels == 8
    for layouts, text in (
        ({"layer1.0": "NWHC"}, "allowed are NCHW"),
        ({"layer1.0": "tokens"}, "does not fit.*allowed are NCHW, NHWC"),
        ({"layer1.O": "NCHW"}, r"did you mean.*'layer1\.0'"),
        ({"layer1.0": "NCHW:1"}, "'tokens:p'"),
    ):
        with pytest.raises(InputError, match=text):
            find_layers(model, x, layouts=layouts)


class Tokens(nn.Module):
    """Two mixing blocks on tokens, `n_prefix` of which belong to no patch."""

    def __init__(self, width, n_prefix):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.prefix = nn.Parameter(torch.rand(1, n_prefix, width))
        self.identity = nn.Identity()
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(2))
        )
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        t = self.identity(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.blocks(torch.cat([self.prefix.expand(len(t), -1, -1), t], 1)).mean(1))


@pytest.mark.parametrize("n_prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [(16, 16), (8, 24)])
@pytest.mark.parametrize("width", [16, 6])  # 16 is also the number of patches
def test_tokens_whatever_the_prefix_aspect_and_width(n_prefix, size, width):
    layers = by_name(find_layers(Tokens(width, n_prefix), torch.rand(2, 1, *size), "all"))
    grid = (size[0] // 4, size[1] // 4)
    assert layers["patches"].layout == "NCHW"
    for name, prefix in (("identity", 0), ("blocks.0.0", n_prefix), ("blocks", n_prefix)):
        layer = layers[name]
        assert (layer.layout, layer.channels, layer.prefix_tokens, layer.grid) == (
            "tokens",
            width,
            prefix,
            grid,
        )


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 16))
def test_token_grids_from_the_patch_map(height, width, prefix):
    found = _token_grid(height * width + prefix, (height, width), None, prefix)
    assert found == (prefix, (height, width))
    if height * width > 1:
        assert _token_grid(height * width + prefix, (height, width), None, None) == (prefix, (height, width))


@pytest.mark.parametrize(
    ("n_tokens", "declared", "expected"),
    [
        (196, None, (0, (14, 14))),
        (197, None, (1, (14, 14))),
        (201, 5, (5, (14, 14))),
        (198, 2, (2, (14, 14))),
    ],
)
def test_token_grids_from_the_image_alone(n_tokens, declared, expected):
    assert _token_grid(n_tokens, (224, 224), declared, None) == expected


def test_thin_networks():
    for model, shape, layout in (
        (thin_resnet18(width=2), (1, 32, 32), "NCHW"),
        (thin_cnn1d(), (12, 64), "NCL"),
        (thin_cnn3d(), (1, 16, 16, 16), "NCDHW"),
    ):
        layers = find_layers(model, torch.rand(2, *shape))
        assert len(layers) >= 3
        assert {layer.layout for layer in layers} == {layout}


class Recurrent(nn.Module):
    """A transformer, a recurrent layer that returns a tuple, and a head with a parametrised weight."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(12, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.lstm = nn.LSTM(16, 8, batch_first=True)
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(8, 2))

    def forward(self, x):
        states, _ = self.lstm(self.encoder(self.embed(x.transpose(1, 2))))
        return self.head(states.mean(1))


def test_transformer_layers_recurrent_outputs_and_parametrised_heads():
    model = Recurrent()
    before = model_state(model)
    layers = find_layers(model, torch.rand(2, 12, 40))
    assert [layer.name for layer in layers] == ["embed", "encoder.layers.0", "encoder.layers.1", "lstm"]
    assert {layer.layout for layer in layers} == {"tokens"}
    assert {layer.grid for layer in layers} == {(40,)}
    assert layers[-1].output == (0,)
    assert model_state(model) == before


def test_an_example_of_one_sample_gives_the_same_layers(build):
    model, x = build("resnet18")
    assert find_layers(model, x) == find_layers(model, x[:1])


def test_a_model_that_runs_under_no_grad(build):
    class Quiet(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        @torch.no_grad()
        def forward(self, x):
            return self.inner(x)

    model, x = build("alexnet")
    assert len(find_layers(Quiet(model), x)) == 7


class FromMaps(nn.Module):
    """Scores from the maps of a network's last block; the network's own scores are not used."""

    def __init__(self):
        super().__init__()
        self.backbone = thin_resnet18(width=8)
        self.head = nn.Linear(64, 2)

    def forward(self, x):
        kept = []
        hook = self.backbone.blocks[-1].register_forward_hook(lambda module, args, out: kept.append(out))
        self.backbone(x)
        hook.remove()
        return self.head(kept[0].mean((2, 3)))


def test_blocks_inside_a_network_whose_own_output_is_not_used():
    model, x = FromMaps(), torch.rand(2, 1, 32, 32)
    names = [layer.name for layer in find_layers(model, x)]
    assert names == [f"backbone.{layer.name}" for layer in find_layers(model.backbone, x)]


@dataclass
class Output:
    hidden: Tensor
    logits: Tensor


def test_replace_in_nested_outputs():
    layer = Layer("a", "A", "vector", (3,), 1.0, output=("state", 1, "hidden"))
    old = {"state": [1, Output(torch.zeros(1, 3), torch.ones(1, 2))], "n": 4}
    new = layer.replace(old, torch.full((1, 3), 5.0))
    assert layer.pick(new).tolist() == [[5, 5, 5]]
    assert layer.pick(old).tolist() == [[0, 0, 0]]
    assert new["state"][1].logits is old["state"][1].logits


def convnet():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


X = torch.rand(2, 3, 8, 8)


def test_wrapped_compiled_and_scripted_models_are_refused_with_the_fix():
    model = convnet()
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # users still have such models
        scripted = torch.jit.trace(model, X)
    for wrapped, fix in (
        (nn.DataParallel(model), r"DataParallel.*model\.module"),
        (torch.compile(model), r"torch\.compile.*model\._orig_mod"),
        (nn.Sequential(nn.DataParallel(model), nn.Identity()), r"part '0'.*model\.0 = model\.0\.module"),
        (scripted, "TorchScript"),
    ):
        with pytest.raises(ModelError, match=fix):
            find_layers(wrapped, X)
    model.compile()
    with pytest.raises(ModelError, match=r"\.compile\(\)"):
        find_layers(model, X)


def test_a_model_that_returns_nan_is_refused_and_the_first_culprit_named():
    model = convnet()
    with torch.no_grad():
        model[3].weight[0, 0] = float("nan")
    before = model_state(model)
    with pytest.raises(ModelError, match=r"NaN or infinite scores for 2 of 2 samples.*'3' \(Linear\)"):
        find_layers(model, X)
    assert model_state(model) == before


def test_wrong_channels_and_sizes_are_refused_in_the_users_terms():
    model = convnet()
    before = model_state(model)
    with pytest.raises(InputError, match=r"1 channel\(s\).*'0' takes 3"):
        find_layers(model, X[:, :1])
    with pytest.raises(ModelError, match=r"fails on a batch of shape \(2, 3, 9, 9\)"):
        find_layers(model, torch.rand(2, 3, 9, 9))
    with pytest.raises(InputError, match="one batch"):
        find_layers(model, X[:0])
    assert model_state(model) == before


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_m10_a_quantised_head_hides_no_layer():
    plain = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()), nn.Flatten(), nn.Linear(64, 2)
    ).eval()
    quantised = pytest.importorskip("torch.ao.quantization").quantize_dynamic(
        plain, {nn.Linear}, dtype=torch.qint8
    )
    assert type(quantised[-1]) is not nn.Linear
    x = torch.rand(2, 1, 8, 8)
    for model in (plain, quantised):
        assert [layer.name for layer in find_layers(model, x)] == ["1", "3"]


def test_only_a_linear_layer_has_no_blocks():
    with pytest.raises(ModelError, match=r"no layer found.*layers='all'.*'1'"):
        find_layers(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), X)
