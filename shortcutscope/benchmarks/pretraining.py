"""Networks of full width, pretrained on other images than those of the task: what users bring.

Nothing is downloaded. Pretrained is on what the data folder holds (the six classes of MedNIST, films of NIH
ChestX-ray8 among its chest radiographs, without their labels), or on phantoms of breasts where there is none.
Each image is shown turned by a quarter, half or three quarters of a turn or not at all, and the network tells
its class and its turn (after Gidaris et al. 2018): the classes alone are learnt too easily to teach much.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.data.table import ImageTable, Normalize
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.models.loading import load_model
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.phantoms import breast_mri
from shortcutscope.types import Array, Record

VERSION = 1
TURNS = 4
PHANTOMS, WITH_FILMS = "phantoms of breasts", "MedNIST and NIH films"
#: Patients of the phantoms, with a dozen images each.
PHANTOM_PATIENTS = 250
#: Images drawn from every class of MedNIST.
PER_CLASS = 500
TRAINING = Training(epochs=6, batch_size=64, lr=1e-3, seed=7)
#: What has no convolutions to begin with learns slower.
TRAININGS = {"vit_tiny": TRAINING.but(epochs=10, lr=5e-4), "densenet121": TRAINING.but(epochs=3)}

#: From a side of the images, a number of classes and a seed to new weights.
Architecture = Callable[[int, int, int], nn.Module]


def _network(spec: str, *, sized: bool = False) -> Architecture:
    """Of a name that `load_model` takes; `sized` for those that have to be told the images' side."""

    def make(side: int, n_classes: int, seed: int) -> nn.Module:
        with seeded(seed):
            return load_model(spec, num_classes=n_classes, arguments={"img_size": side} if sized else None)

    return make


#: Full-width networks of three channels.
ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": _network("torchvision:resnet18"),
    "vit_tiny": _network("timm:vit_tiny_patch16_224", sized=True),
    "densenet121": _network("torchvision:densenet121"),
}


def pretrained(architecture: str, side: int, seed: int, settings: Settings) -> nn.Module:
    """A network that was pretrained once, with a new head of two classes drawn from a seed.

    Parameters
    ----------
    architecture
        A key of `ARCHITECTURES`.
    side
        Of the images, in pixels.
    seed
        Of the head's weights; the others are the same for all seeds.
    settings
        For the folders of the data and of what is kept.
    """
    make, images = ARCHITECTURES[architecture], pretraining_images(side, settings.data, settings.quick)
    n_classes = int(images.frame["label"].max()) + 1
    training = training_of(architecture, settings)
    path = settings.cache / "pretrained" / f"{architecture}-{pretraining_key(architecture, side, settings)}"
    before = make(side, n_classes, 0)
    body = kept_network(
        path.with_suffix(".safetensors"),
        before,
        lambda: fit(before, images, CrossEntropy(), training, progress=False).model,
    ).state_dict()
    network = make(side, 2, seed)
    own = network.state_dict()
    network.load_state_dict(own | {k: v for k, v in body.items() if v.shape == own[k].shape})
    return network


def pretraining_key(architecture: str, side: int, settings: Settings) -> str:
    """Digest of what the pretrained weights follow from."""
    images = pretraining_images(side, settings.data, settings.quick)
    training = repr(training_of(architecture, settings))
    text = json.dumps([VERSION, architecture, side, images.fingerprint(), training])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def training_of(architecture: str, settings: Settings) -> Training:
    """How a network is pretrained; the quick version takes a few steps."""
    training = TRAININGS.get(architecture, TRAINING)
    return training.but(steps=4) if settings.quick else training


def pretraining_source(data: Path | None) -> str:
    """Which images a data folder gives the pretraining."""
    if data is None or not (data / "mednist" / "CXR").is_dir():
        return PHANTOMS
    return WITH_FILMS if (data / "nih_cxr" / "images.csv").exists() else "MedNIST"


@lru_cache(maxsize=1)
def pretraining_images(side: int, data: Path | None, quick: bool) -> ImageTable:
    """What is pretrained on: the label is class and turn."""
    if data is not None and pretraining_source(data) != PHANTOMS:
        images, classes = _real(side, data, 8 if quick else PER_CLASS)
    else:
        table = breast_mri(n_patients=28 if quick else PHANTOM_PATIENTS, size=side, feature="none", seed=404)
        images = np.stack([table.image(i).numpy()[0] for i in range(len(table))])
        classes = table.frame["label"].to_numpy()
    turns = np.random.default_rng(405).integers(0, TURNS, len(images))
    turned = np.stack([np.rot90(image, turn) for image, turn in zip(images, turns, strict=True)])
    frame = pd.DataFrame({"label": classes * TURNS + turns})
    options: Record = {"mode": "RGB", "value_range": (0, 1), "transform": Normalize(0.45, 0.25)}
    return ImageTable.from_arrays(turned, frame, **options)


def _real(side: int, data: Path, per_class: int) -> tuple[Array, Array]:
    """Images (N, side, side) of MedNIST's classes, and NIH films among its chest radiographs."""
    options: Record = {"size": side, "mode": "L"}
    table = ImageTable.from_folder(data / "mednist", **options)
    labels = table.frame["label"].to_numpy()
    order = np.random.default_rng(406).permutation(len(labels))
    rows = np.sort(np.concatenate([order[labels[order] == k][:per_class] for k in np.unique(labels)]))
    images = [table.image(int(row)).numpy()[0] for row in rows]
    classes = list(labels[rows])
    if pretraining_source(data) == WITH_FILMS:
        films = ImageTable.from_csv(data / "nih_cxr" / "images.csv", image="image", label="label", **options)
        chest = (table.classes or ()).index("CXR")
        taken = range(min(len(films), 2 * per_class))
        images += [films.image(row).numpy()[0] for row in taken]
        classes += [chest] * len(taken)
    return np.stack(images), np.asarray(classes, np.int64)
