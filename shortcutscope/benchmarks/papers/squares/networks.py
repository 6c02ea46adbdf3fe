"""The networks of Squares: the biased one, published corrections of it, and this package's."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.cluster import KMeans
from torch import nn
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock

from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.benchmarks.papers.squares.data import BACKGROUND, Cohort
from shortcutscope.data.joining import joined
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.models.seeding import seeded
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.types import Floats, Record

__all__ = ["OURS", "PUBLISHED", "GroupLabels", "Networks", "Schedule", "by_group", "thin_resnet18"]

VERSION = 1
#: Who says which training images have a dark background.
GroupLabels = Literal["none", "truth", "discovered"]
#: Whose training: the paper's, or the one that this package's own rows have.
Schedule = Literal["published", "ours"]
#: The paper's: 150 epochs of SGD; `but` fewer where that is asked for.
PUBLISHED = Training(
    epochs=150,
    batch_size=100,
    lr=1e-3,
    weight_decay=1e-4,
    optimizer="sgd",
    schedule="exponential",
    warmup=0,
    augmentation="none",
)
#: From the biased network. Where the square stands and how the image is turned says nothing of the class.
OURS = Training(steps=240, batch_size=100, lr=2e-3, weight_decay=1e-2, warmup=0.1, augmentation="symmetries")
#: Share of the published steps that a correction of the biased network trains on.
CORRECTION = 0.2


def thin_resnet18(width: int = 16) -> nn.Sequential:
    """ResNet-18 as torchvision has it, at a fraction of the width (64 is the whole)."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = width
    for stage in range(4):
        after = width * 2**stage
        for stride in (1 if stage == 0 else 2, 1):
            projection = None
            if stride > 1 or channels != after:
                projection = nn.Sequential(
                    nn.Conv2d(channels, after, 1, stride, bias=False), nn.BatchNorm2d(after)
                )
            layers.append(BasicBlock(channels, after, stride, projection))
            channels = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))


class Networks:
    """Trains the networks of a cohort; the biased one is made once and kept.

    Parameters
    ----------
    cohort
        Its images.
    seed
        Of weights and training.
    cache
        Folder of kept networks.
    thin
        A quarter of the width.
    epochs
        Of the published training.
    """

    def __init__(self, cohort: Cohort, seed: int, cache: Path, *, thin: bool, epochs: float) -> None:
        self.cohort, self._seed, self._cache, self._thin = cohort, seed, cache, thin
        self._published = PUBLISHED.but(epochs=epochs, seed=seed)

    def initial(self, seed: int) -> nn.Module:
        """New weights."""
        with seeded(seed):
            return thin_resnet18() if self._thin else resnet18(num_classes=2)

    def biased(self) -> nn.Module:
        """Trained by cross-entropy; the weights of the best validation accuracy."""
        train, validation = self.cohort.train, self.cohort.validation
        training = self._published.but(select="accuracy")

        def make() -> nn.Module:
            model = self.initial(self._seed)
            return fit(model, train, CrossEntropy(), training, validation=validation, progress=False).model

        inputs = [VERSION, self._seed, self._thin, repr(training), train.fingerprint()]
        digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:24]
        return kept_network(self._cache / f"erm-{digest}.safetensors", self.initial(self._seed), make)

    def train(self, recipe: str, labels: GroupLabels, schedule: Schedule, options: Record) -> nn.Module:
        """Correct the biased network by a recipe.

        Parameters
        ----------
        recipe
            Of ``RECIPES``; ``"erm"`` is the biased network itself where the schedule is the published one.
        labels
            Who says which images have a dark background.
        schedule
            Whose training.
        options
            Of the recipe.
        """
        if recipe == "erm" and schedule == "published":
            return self.biased()
        return RECIPES[recipe](self._problem(recipe, labels, schedule), **options).model

    def _problem(self, recipe: str, labels: GroupLabels, schedule: Schedule) -> DebiasProblem:
        cohort = self.cohort
        problem = DebiasProblem(
            model=self.biased(),
            train=cohort.train,
            carries=None if labels == "none" else carries_of(cohort.train, labels),
            training=OURS.but(seed=self._seed),
            initial=self.initial,
            seed=self._seed,
            progress=False,
        )
        if recipe == "dfr":  # fits the last layer on group-balanced subsets of all that is known
            both = joined(cohort.train, cohort.validation)
            concept = [carries_of(part, labels) for part in (cohort.train, cohort.validation)]
            return replace(problem, clean=both, clean_carries=np.concatenate(concept))
        if schedule == "published":
            # GroupDRO is a training of its own; the others correct the biased network.
            fresh = recipe == "group-dro"
            epochs = self._published.epochs * (1 if fresh else CORRECTION)
            training = self._published.but(epochs=epochs)
            return replace(problem, training=training, start="fresh" if fresh else "model")
        return problem


def carries_of(table: ImageTable, labels: GroupLabels) -> Floats:
    """(N,) 1 where the background is dark: the truth, or the darker of two clusters of the mean grey."""
    if labels == "truth":
        return table.frame[BACKGROUND].to_numpy(float)
    grey = np.array([[float(table.image(i).mean())] for i in range(len(table))])
    clusters = KMeans(2, n_init=10, random_state=0).fit(grey)
    dark: Floats = (clusters.labels_ == int(clusters.cluster_centers_.argmin())).astype(float)
    return dark


def by_group(model: nn.Module, table: ImageTable) -> dict[str, float]:
    """Accuracy of each group of class and background, in percent; their mean, and the worst."""
    right = predict_logits(model, table).argmax(1).numpy() == table.frame["label"].to_numpy()
    labels, dark = (table.frame[name].to_numpy() for name in ("label", BACKGROUND))
    accuracies = [
        100 * float(right[(labels == label) & (dark == side)].mean()) for label in (0, 1) for side in (0, 1)
    ]
    names = ("class 0, bright", "class 0, dark", "class 1, bright", "class 1, dark")
    return {
        "average": float(np.mean(accuracies)),
        "worst": min(accuracies),
        **dict(zip(names, accuracies, strict=True)),
    }
