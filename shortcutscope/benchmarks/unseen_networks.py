"""Networks with a shortcut that is not in the catalogue: tasks of their own, three kinds of network, kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.benchmarks.models import Case as Trained
from shortcutscope.benchmarks.models import sample_pool, split_pool
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.unseen_kinds import UNSEEN
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.debias.training.classifier import Optimizing, train_classifier
from shortcutscope.errors import InputError
from shortcutscope.models.loading import load_model
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.planting import plant
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.types import Array

VERSION = 1
N_HELD_OUT = 400
STRONG = 0.95


@dataclass(frozen=True)
class Images:
    """Where the images of a task come from.

    Attributes
    ----------
    folders
        Of MedNIST, one for each class; of a single one it is told whether an image is mirrored.
    side
        Of the images in pixels.
    n_train
        Training images.
    wrong
        Share of wrong labels.
    """

    folders: tuple[str, ...]
    side: int
    n_train: int
    wrong: float = 0.0


TASKS: Mapping[str, Images] = {
    "radiographs": Images(("CXR",), 80, 600),
    "ct": Images(("AbdomenCT", "ChestCT"), 64, 900, wrong=0.1),
    "hands": Images(("Hand",), 64, 600),
}
#: What is asked where there is no MedNIST.
PHANTOMS, N_PHANTOMS = "phantom-faint", 800


@dataclass(frozen=True)
class Plan:
    """How a network is made and trained: `make` from the images' side and a seed."""

    make: Callable[[int, int], nn.Module]
    epochs: int
    lr: float


def _full_width(spec: str, **arguments: int) -> Callable[[int, int], nn.Module]:
    def make(side: int, seed: int) -> nn.Module:
        sized = {"img_size": side} if "depth" in arguments else {}
        with seeded(seed):
            return load_model(spec, num_classes=2, arguments={"in_chans": 1, **arguments, **sized})

    return make


NETWORKS: Mapping[str, Plan] = {
    "thin": Plan(lambda side, seed: thin_resnet18(seed=seed), 8, 3e-3),
    "resnet18": Plan(_full_width("timm:resnet18"), 5, 1e-3),
    "vit_tiny": Plan(_full_width("timm:vit_tiny_patch16_224", patch_size=8, depth=4), 15, 5e-4),
}


@dataclass(frozen=True)
class UnseenSpec:
    """Which network: of which task, with what planted."""

    task: str
    kind: str
    network: str
    seed: int


def unseen_case(spec: UnseenSpec, settings: Settings) -> Trained:
    """A network with the tables that it was trained on and is asked about.

    The artifact is in 95 % of one class and 5 % of the other in training, and in half of either class of the
    400 held-out images.

    Raises
    ------
    InputError
        When a task needs images that the data folder does not hold.
    """
    artifact, seed = UNSEEN[spec.kind], spec.seed
    train, held_out = _tables(spec.task, settings, seed)
    train = plant(train, artifact, correlation=STRONG, seed=seed)
    held_out = plant(held_out, artifact, prevalence={0: 0.5, 1: 0.5}, seed=seed + 1000)
    plan = NETWORKS[spec.network]
    told = json.dumps([VERSION, asdict(spec), plan.epochs, plan.lr, train.fingerprint()])
    key = hashlib.sha256(told.encode()).hexdigest()[:24]
    network = plan.make(train.shape[-1], seed)

    def make() -> nn.Module:
        optimizing = Optimizing(plan.lr, precision="fp32")
        return train_classifier(
            network, train, epochs=plan.epochs, seed=seed, optimizing=optimizing, progress=False
        )

    path = settings.cache / "models" / f"unseen-{spec.task}-{spec.kind}-{key}.safetensors"
    return Trained(kept_network(path, network, make), train, held_out)


def _tables(task: str, settings: Settings, seed: int) -> tuple[ImageTable, ImageTable]:
    if task == PHANTOMS:
        return split_pool(sample_pool(PHANTOMS, settings), seed, N_PHANTOMS, N_HELD_OUT)
    images = TASKS[task]
    pixels, labels = _pictures(settings.data, images)
    generator = np.random.default_rng([seed, 43])
    order = generator.permutation(len(pixels))[: images.n_train + N_HELD_OUT]
    pixels, labels = pixels[order], labels[order]
    if len(images.folders) == 1:
        labels = generator.permutation(np.arange(len(order)) % 2)
        pixels = np.where(labels[:, None, None] == 1, pixels[..., ::-1], pixels)
    labels = np.where(generator.random(len(order)) < images.wrong, 1 - labels, labels)
    frame = pd.DataFrame({"sample_id": [f"{task}-{k:04d}" for k in order], "label": labels})
    table = ImageTable.from_arrays(pixels, frame, value_range=(0, 1), transform=Normalize(0.45, 0.25))
    return table.take(np.arange(images.n_train)), table.take(np.arange(images.n_train, len(order)))


@lru_cache(maxsize=2)
def _pictures(data: Path | None, images: Images) -> tuple[Array, Array]:
    """All images (N, H, W) in 0..1 of some folders of MedNIST, and which folder each is of."""
    pixels, labels = [], []
    for label, name in enumerate(images.folders):
        files = [] if data is None else sorted((data / "mednist" / name).glob("*.jpeg"))
        if len(files) * len(images.folders) < images.n_train + N_HELD_OUT:
            raise InputError(
                f"{len(files)} images of {name} are too few; give --data, the folder that holds mednist and "
                "its class folders, or leave it out to run on phantoms"
            )
        for file in files:
            with Image.open(file) as opened:
                grey = opened.convert("L").resize((images.side, images.side), Image.Resampling.BICUBIC)
            pixels.append(np.asarray(grey, np.float32) / np.float32(255))
        labels += [label] * len(files)
    return np.stack(pixels), np.array(labels)
