"""Layers and layouts of one architecture of each of timm's families, held against what another size changes.

Which axis holds the channels is asked in a way that detection does not know: of the same network on larger
images every axis of positions is longer, and the channels' axis is not.
"""

import warnings

import pytest
import torch
from model_states import model_state
from torch import nn

from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers
from shortcutscope.models.layouts import channel_axis

timm = pytest.importorskip("timm")

CONVOLUTIONAL = [
    "resnet10t",
    "seresnext26d_32x4d",
    "skresnet18",
    "resnest14d",
    "res2net50_26w_4s",
    "densenet121",
    "vgg11",
    "efficientnet_lite0",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small_050",
    "ghostnet_050",
    "ghostnetv2_100",
    "lcnet_050",
    "tinynet_e",
    "mnasnet_small",
    "regnetx_002",
    "regnety_002",
    "rexnet_100",
    "dla46_c",
    "hrnet_w18_small",
    "convnext_atto",
    "convnextv2_atto",
    "inception_next_atto",
    "repvgg_a0",
    "cspresnet50",
    "darknet17",
    "selecsls42",
    "ese_vovnet19b_dw",
    "gernet_s",
    "poolformer_s12",
    "convmixer_768_32",
    "edgenext_xx_small",
    "mobilevitv2_050",
    "fastvit_t8",
    "repvit_m0_9",
    "starnet_s1",
    "mambaout_femto",
    "pvt_v2_b0",
    "focalnet_tiny_srf",
]
SIZED = [
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "cait_xxs24_224",
    "eva02_tiny_patch14_224",
    "xcit_nano_12_p16_224",
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_ns_224",
    "twins_pcpvt_small",
    "mixer_s32_224",
    "gmlp_ti16_224",
]
PATCH_14 = {"eva02_tiny_patch14_224": (56, 84), "mixer_s32_224": (64, 96)}


def build(name, size):
    options = {"img_size": size} if name in SIZED else {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=2, **options)
    return model, torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def shapes(model, x, layers):
    """Shape of one sample of each layer's output."""
    seen = {}

    def keep(layer):
        def hook(module, inputs, result):
            seen[layer.name] = tuple(layer.pick(result).shape[1:])

        return hook

    with frozen(model), torch.no_grad():
        for layer in layers:
            model.get_submodule(layer.name).register_forward_hook(keep(layer))
        model(x)
    return seen


def misread(layer, small, large):
    """Whether the axes that grow with the image are not the layer's positions."""
    grow = [a != b for a, b in zip(small, large, strict=True)]
    channels = 0 if channel_axis(layer.layout) == 1 else len(grow) - 1
    if layer.layout == "vector" or not any(grow):
        return any(grow)
    return grow[channels] or not all(g for axis, g in enumerate(grow) if axis != channels)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *SIZED])
def test_m20_layers_have_the_layouts_that_a_larger_image_shows(name):
    small, large = PATCH_14.get(name, (64, 96))
    model, x = build(name, small)
    before = model_state(model)
    layers = find_layers(model, x)
    assert model_state(model) == before
    assert 4 <= len(layers) <= 20
    other, y = (model, torch.rand(1, 3, large, large)) if name in CONVOLUTIONAL else build(name, large)
    here, there = shapes(model, x, layers), shapes(other, y, layers)
    assert [k.name for k in layers if misread(k, here[k.name], there[k.name])] == []
    if any(layer.layout == "tokens" for layer in layers):
        assert {layer.prefix_tokens for layer in layers if layer.layout == "tokens"} <= {
            0,
            getattr(model, "num_prefix_tokens", 0),
        }


def test_m20_as_many_channels_as_rows_are_no_channels_last():
    class Ghost(nn.Module):
        """Half of the channels are made of the others."""

        def __init__(self, given, channels):
            super().__init__()
            self.first, self.cheap = (
                nn.Conv2d(given, channels // 2, 1),
                nn.Conv2d(channels // 2, channels // 2, 1),
            )

        def forward(self, x):
            x = self.first(x).relu()
            return torch.cat([x, self.cheap(x)], 1)

    model = nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.ReLU(), Ghost(8, 8), Ghost(8, 20), Ghost(20, 8), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 2),
    )  # fmt: skip
    layers = find_layers(model, torch.rand(2, 1, 8, 8))
    assert [layer.channels for layer in layers] == [8, 8, 20, 8]
    assert {layer.layout for layer in layers} == {"NCHW"}


def test_m20_stages_that_put_their_axes_in_another_order_are_stages():
    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm, self.map = nn.LayerNorm(width), nn.Linear(width, width)

        def forward(self, x):
            return x + self.map(self.norm(x)).relu()

    class Stage(nn.Module):
        def __init__(self, given, width):
            super().__init__()
            self.down = nn.Linear(4 * given, width)
            self.blocks = nn.Sequential(Block(width), Block(width))

        def forward(self, x):
            n, c, h, w = x.shape
            x = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).flatten(3)
            return self.blocks(self.down(x)).permute(0, 3, 1, 2)

    model = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.ReLU(), Stage(4, 8), Stage(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 2),
    )  # fmt: skip
    layers = {layer.name: layer for layer in find_layers(model, torch.rand(2, 1, 16, 16))}
    blocks = [f"{stage}.blocks.{k}" for stage in (2, 3) for k in range(2)]
    assert set(blocks) <= set(layers)
    assert {layers[name].layout for name in blocks} == {"NHWC"}
    assert [layers[name].grid for name in blocks] == [(8, 8), (8, 8), (4, 4), (4, 4)]
