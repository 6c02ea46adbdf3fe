"""The networks of the protocol `spurbreast`: a ResNet-50 and a vision transformer, narrow or full-size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.benchmarks.papers.spurbreast.data import Cohort
from shortcutscope.benchmarks.runner import Case, Settings
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.models.seeding import seeded

__all__ = ["ARCHITECTURES", "FULL", "THIN", "NetworkStore", "store_of"]

VERSION = 1


@dataclass(frozen=True)
class Architecture:
    """How a network is made and trained.

    Attributes
    ----------
    build
        From the side of the images in pixels and whether to start from ImageNet's weights to a network.
    training
        Its schedule.
    """

    build: Callable[[int, bool], nn.Module]
    training: Training


def _thin_resnet50(side: int, pretrained: bool) -> nn.Module:
    """ResNet-50's 3, 4, 6 and 3 bottlenecks at an eighth of their width, after a 3 x 3 convolution."""
    block: Any = timm.models.resnet.Bottleneck  # timm's hints want an instance
    net = timm.models.ResNet(
        block,
        layers=(3, 4, 6, 3),
        num_classes=2,
        in_chans=1,
        channels=(8, 16, 32, 64),
        zero_init_last=False,
    )
    # Seven pixels of 48 would be most of a breast.
    net.add_module("conv1", nn.Conv2d(1, 64, 3, 2, 1, bias=False))
    return net


def _thin_vit(side: int, pretrained: bool) -> nn.Module:
    """Two transformer blocks of width 48 on patches of 8 pixels, embedded by three convolutions.

    A linear embedding and a class token, as published, take more images to learn what a tumour is than there
    are here; see Xiao et al. 2021, "Early convolutions help transformers see better".
    """
    net = VisionTransformer(
        img_size=side,
        patch_size=8,
        in_chans=1,
        num_classes=2,
        embed_dim=48,
        depth=2,
        num_heads=3,
        mlp_ratio=2,
        global_pool="avg",
        class_token=False,
    )
    layers: list[nn.Module] = []
    for before, after in pairwise((1, 12, 24, 48)):
        conv = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
    net.patch_embed.proj = nn.Sequential(*layers, nn.Conv2d(48, 48, 1))
    return net


def _resnet50(side: int, pretrained: bool) -> nn.Module:
    return timm.create_model("resnet50", pretrained=pretrained, in_chans=1, num_classes=2)


def _vit(side: int, pretrained: bool) -> nn.Module:
    return timm.create_model(
        "vit_base_patch16_224", pretrained=pretrained, in_chans=1, num_classes=2, img_size=side
    )


ARCHITECTURES = {
    "thin ResNet-50": Architecture(_thin_resnet50, Training(epochs=6, batch_size=32, lr=3e-3)),
    "thin ViT": Architecture(_thin_vit, Training(epochs=8, batch_size=32, lr=1e-3)),
    "ResNet-50": Architecture(_resnet50, Training(epochs=15, batch_size=32, lr=3e-4)),
    "ViT-B/16": Architecture(_vit, Training(epochs=15, batch_size=32, lr=3e-5, clip_norm=1.0)),
}
THIN, FULL = ("thin ResNet-50", "thin ViT"), ("ResNet-50", "ViT-B/16")


class NetworkStore:
    """Makes, and remembers on disk, the networks of a cohort and an architecture."""

    def __init__(self, cohort: Cohort, architecture: str, settings: Settings) -> None:
        self.cohort, self.architecture, self.settings = cohort, architecture, settings
        self.table = cohort.table(settings)
        self.training = ARCHITECTURES[architecture].training

    def split(self, name: str) -> ImageTable:
        """The slices of ``"train"``, ``"val"`` or ``"test"``."""
        return self.table.where(split=name)

    def member(self, number: int) -> nn.Module:
        """A network of an ensemble: the same samples, with weights and an order of the samples of its own."""
        seed = self.cohort.seed + 1000 * number

        def make() -> nn.Module:
            network, train = self._new(seed, pretrained=self._pretrained), self.split("train")
            return fit(network, train, CrossEntropy(), self.training.but(seed=seed), progress=False).model

        return kept_network(self._weights_path(number), self._new(seed, pretrained=False), make)

    @property
    def _pretrained(self) -> bool:
        """As in the paper: networks of full width on real images start from ImageNet's weights."""
        return self.architecture in FULL and self.settings.data is not None

    def _new(self, seed: int, *, pretrained: bool) -> nn.Module:
        side = int(self.table.image(0).shape[-1])
        with seeded(seed):
            network = ARCHITECTURES[self.architecture].build(side, pretrained)
        return network.to("cuda" if torch.cuda.is_available() else "cpu")

    def _weights_path(self, number: int) -> Path:
        inputs: list[Any] = [VERSION, self.architecture, number, self.cohort.seed, repr(self.training)]
        inputs += [self.split("train").fingerprint(), self._pretrained]
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:24]
        name = self.architecture.replace(" ", "-").replace("/", "-").lower()
        return self.settings.cache / "reproduce" / "spurbreast-networks" / f"{name}-{digest}.safetensors"


@lru_cache(maxsize=1)
def _store(cohort: Cohort, architecture: str, settings: Settings) -> NetworkStore:
    return NetworkStore(cohort, architecture, settings)


def store_of(case: Case, settings: Settings) -> NetworkStore:
    """What cases of a cohort and an architecture share; made once per process."""
    return _store(Cohort.of(case), case["architecture"], settings)
