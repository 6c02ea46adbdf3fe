"""The architectures that attribution has to be right on, with random and with briefly trained weights.

They are those that the field publishes with, and one network written as users write them. Inputs are the
smallest sensible ones: relevance is lost or doubled by operations, not by pixels.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.training.classifier import Optimizing, train_classifier
from shortcutscope.files import write_atomically
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.types import Array, Record

Weights = Literal["random", "trained"]

VERSION = 1
CLASSES = 10
STEPS = 30
BATCH = 8
LEARNING_RATE = 1e-3
#: Matrices with more weights than this stay as drawn: VGG's first ones would take minutes of AdamW.
TRAINABLE = 10_000_000
HELD_OUT = 64

#: Parameters that are constants beside the activations, as biases are, but are not called so.
EMBEDDINGS = frozenset(
    {"pos_embed", "pos_embedding", "cls_token", "class_token", "dist_token", "reg_token"}
    | {"relative_position_bias_table"}
)


class ResidualBlock1d(nn.Module):
    """Two convolutions with a sum and a ReLU in place, and one ReLU module for both."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(out_channels)
        self.conv2 = nn.Conv1d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm1d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv1d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm1d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, L) to (N, out_channels, L / stride)."""
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.bn2(self.conv2(h))
        h += self.shortcut(x)
        result: Tensor = self.relu(h)
        return result


def resnet1d() -> nn.Module:
    """A ResNet for two-lead signals (N, 2, L)."""
    return nn.Sequential(
        nn.Conv1d(2, 16, 7, 2, 3, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(inplace=True),
        ResidualBlock1d(16, 16),
        ResidualBlock1d(16, 32, 2),
        ResidualBlock1d(32, 64, 2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


class HandWritten(nn.Module):
    """What users write: sums in the forward, functional calls, a module used twice, work in place, a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.norm = nn.BatchNorm2d(16)
        self.twice = nn.Conv2d(16, 16, 3, padding=1)
        self.squeeze = nn.Linear(16, 4)
        self.excite = nn.Linear(4, 16)
        self.wide = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.act = nn.ReLU(inplace=True)
        self.fc = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 3, H, W) to logits."""
        h = F.relu(self.norm(self.stem(x)))
        h = F.relu(self.twice(h)) + h
        h = torch.relu_(self.twice(h).add_(h))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(h.mean((2, 3))))))
        h = h * gate[:, :, None, None]
        h = F.max_pool2d(self.act(self.wide(h)), 2)
        result: Tensor = self.fc(F.adaptive_avg_pool2d(h, 1).flatten(1))
        return result


@dataclass(frozen=True)
class Architecture:
    """One network of the list.

    Attributes
    ----------
    source
        ``"torchvision"``, ``"timm"``, or a factory of this module.
    model
        Its name there.
    shape
        Of one sample: (C, L), (C, H, W) or (C, D, H, W).
    attention
        Whether it has attention, which is held to another bar.
    size_argument
        By which the model is told its image size; None for models of any size.
    """

    source: str | Callable[[], nn.Module]
    model: str
    shape: tuple[int, ...] = (3, 64, 64)
    attention: bool = False
    size_argument: str | None = None

    def build(self, size: int | None = None) -> nn.Module:
        """An untrained model in evaluation mode, from torch's global generator.

        Parameters
        ----------
        size
            Height and width of the image; None for those of `shape`.
        """
        if callable(self.source):
            return self.source().eval()
        options: Record = {self.size_argument: size or self.shape[-1]} if self.size_argument else {}
        if self.source == "timm":
            import timm

            return timm.create_model(self.model, num_classes=CLASSES, **options).eval()
        import torchvision

        model: nn.Module = torchvision.models.get_model(self.model, num_classes=CLASSES, **options)
        return model.eval()


_CONVOLUTIONAL = (
    "alexnet", "vgg16", "vgg16_bn", "resnet18", "resnet50", "densenet121",
    "mobilenet_v2", "efficientnet_b0", "convnext_tiny",
)  # fmt: skip
_TIMM_TRANSFORMERS = {
    "timm vit_tiny": "vit_tiny_patch16_224",
    "timm vit_small": "vit_small_patch16_224",
    "timm deit_tiny": "deit_tiny_patch16_224",
}

ARCHITECTURES: dict[str, Architecture] = {
    **{name: Architecture("torchvision", name) for name in _CONVOLUTIONAL},
    "vit_b_16": Architecture("torchvision", "vit_b_16", attention=True, size_argument="image_size"),
    "swin_t": Architecture("torchvision", "swin_t", attention=True),
    "r3d_18": Architecture("torchvision", "r3d_18", (3, 4, 32, 32)),
    "timm resnet18": Architecture("timm", "resnet18"),
    "timm resnet50d": Architecture("timm", "resnet50d"),
    **{
        name: Architecture("timm", model, attention=True, size_argument="img_size")
        for name, model in _TIMM_TRANSFORMERS.items()
    },
    "resnet1d": Architecture(resnet1d, "resnet1d", (2, 128)),
    "hand-written": Architecture(HandWritten, "HandWritten"),
}


@dataclass(frozen=True)
class Prepared:
    """A model with samples to explain.

    Attributes
    ----------
    model
        In evaluation mode, float32.
    x
        (N, C, ...): noise for random weights, held-out samples of the task for trained ones.
    steps
        Of training; 0 for random weights.
    accuracy
        On `HELD_OUT` samples of the task; None for random weights.
    """

    model: nn.Module
    x: Tensor
    steps: int
    accuracy: float | None


def prepare(name: str, weights: Weights, seed: int, cache: Path, n: int = 2) -> Prepared:
    """One architecture with random weights, or with trained ones (from the cache if it has them).

    Parameters
    ----------
    name
        A key of `ARCHITECTURES`.
    weights
        ``"random"``: as initialised, but that batch norm has statistics and zeros are drawn, so that no part
        of the network is idle. ``"trained"``: `STEPS` steps of AdamW from there.
    seed
        Of the weights, the samples and the training.
    cache
        Folder for trained weights.
    n
        How many samples.
    """
    architecture = ARCHITECTURES[name]
    with seeded(seed):
        model = randomized(architecture.build())
        noise = torch.randn(n, *architecture.shape)
    if weights == "random":
        return Prepared(model, noise, 0, None)
    accuracy = _train(name, model, seed, cache)
    held_out = task(architecture.shape, n, seed + 1)
    x = torch.stack([held_out[i][0] for i in range(n)])
    return Prepared(model, x, STEPS, accuracy)


def randomized(model: nn.Module) -> nn.Module:
    """Draw what initialisation leaves idle, in place, from torch's global generator; returns the model.

    Batch norm gets statistics, scales and shifts; weights that start at zero (heads) and scales of residual
    branches that start near it get values, since a part without effect would hide what is wrong with it.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.normal_(module.bias, 0, 0.1)
        elif isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.05)
    for name, parameter in model.named_parameters():
        if name.endswith("layer_scale"):
            nn.init.uniform_(parameter, 0.1, 0.5)
    return model


def zero_biases(model: nn.Module) -> nn.Module:
    """A copy without constants: what then does not arrive at the input was lost by a rule.

    Biases, batch norm's shifts and running means, position embeddings, class tokens and relative position
    biases are zero; everything else is as it was.
    """
    bare = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in bare.named_parameters():
            leaf = name.rpartition(".")[2]
            if leaf.endswith("bias") or leaf in EMBEDDINGS:
                parameter.zero_()
        for name, buffer in bare.named_buffers():
            if name.endswith("running_mean"):
                buffer.zero_()
    return bare


def task(shape: tuple[int, ...], n: int, seed: int) -> ImageTable:
    """Samples of two classes that a network can learn to tell apart in seconds.

    Radiograph phantoms, tinted or not, for images; a burst of a slow or a fast wave in noise for signals; a
    bright ball in noise or none for volumes; in as many channels as are asked for, standardised.
    """
    if len(shape) == 3:
        phantoms = radiographs(n, size=shape[-1], seed=seed)
        table = plant(phantoms, get_artifact("white_tint"), correlation=1.0, seed=seed)
        images = (np.stack([table.image(i).numpy() for i in range(n)]) - 0.45) / 0.25
        labels = table.frame["label"].to_numpy()
    else:
        generator = np.random.default_rng(seed)
        labels = np.arange(n) % 2
        draw = _signal if len(shape) == 2 else _volume
        images = np.stack([draw(shape[1:], int(label), generator) for label in labels])
    channels = torch.from_numpy(np.broadcast_to(images, (n, *shape)).astype(np.float32))
    samples = torch.utils.data.TensorDataset(channels)
    limits = (float(channels.min()), float(channels.max()))
    return ImageTable.from_dataset(
        samples,
        pd.DataFrame({"label": labels}),
        value_range=limits,
        transform=_leads if len(shape) == 2 else None,
    )


def _leads(image: Tensor) -> Tensor:
    """The signal in what the table read as a grey image of leads x time."""
    return image[0]


def _signal(size: tuple[int, ...], label: int, generator: np.random.Generator) -> Array:
    time = np.arange(size[0])
    burst = np.exp(-(((time - generator.uniform(0.3, 0.7) * size[0]) / (0.1 * size[0])) ** 2))
    wave = np.sin(2 * np.pi * (16 if label else 6) * time / size[0] + generator.uniform(0, 6))
    return np.asarray(burst * wave * 2 + generator.normal(0, 0.5, size))[None]


def _volume(size: tuple[int, ...], label: int, generator: np.random.Generator) -> Array:
    place = [generator.uniform(0.3, 0.7) * side for side in size]
    axes = np.meshgrid(*(np.arange(side) for side in size), indexing="ij")
    distance = np.sum([(axis - at) ** 2 for axis, at in zip(axes, place, strict=True)], axis=0)
    return np.asarray(label * 3.0 * np.exp(-distance / 16) + generator.normal(0, 0.5, size))[None]


def _train(name: str, model: nn.Module, seed: int, cache: Path) -> float:
    """Put trained weights into the model; returns its accuracy on held-out samples."""
    recipe = [VERSION, name, seed, STEPS, BATCH, LEARNING_RATE]
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    path = cache / "models" / f"architecture-{name.replace(' ', '-')}-{key}.safetensors"
    if not path.exists():
        table = _training_table(ARCHITECTURES[name].shape, seed)
        train, held_out = (
            table.take(np.arange(STEPS * BATCH)),
            table.take(np.arange(STEPS * BATCH, len(table))),
        )
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.numel() <= TRAINABLE)
        train_classifier(
            model,
            train,
            epochs=1,
            seed=seed,
            # 3-D convolutions in bfloat16 now and then give NaN on CPUs.
            optimizing=Optimizing(
                LEARNING_RATE,
                BATCH,
                precision="fp32" if len(ARCHITECTURES[name].shape) == 4 else "bf16",
            ),
            progress=False,
        )
        model.requires_grad_(True)
        right = predict_logits(model, held_out, BATCH).argmax(1).numpy() == held_out.frame["label"].to_numpy()
        # Half the disk. The model that was trained is given the rounded weights, too.
        tensors = {
            key: (value.bfloat16() if value.is_floating_point() else value).contiguous()
            for key, value in model.state_dict().items()
        }
        metadata = {"accuracy": str(right.mean())}
        write_atomically(path, lambda file: file.write(save(tensors, metadata)))
    with safe_open(path, "pt") as handle:
        model.load_state_dict({key: handle.get_tensor(key).clone() for key in handle.keys()})  # noqa: SIM118
        model.float().eval()
        return float(handle.metadata()["accuracy"])


@cache
def _training_table(shape: tuple[int, ...], seed: int) -> ImageTable:
    return task(shape, STEPS * BATCH + HELD_OUT, seed)
