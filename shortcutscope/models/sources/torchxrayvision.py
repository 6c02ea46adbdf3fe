"""``xrv:NAME``: classifiers of chest radiographs of torchxrayvision.

A name of weights, such as ``densenet121-res224-all``, stands for a trained network with its pathologies; one
of an architecture, such as ``densenet121``, for a new one. The package itself would download and unpickle
weights; here they are read from the disk, as any checkpoint is. Its operating points are left out: scores are
logits.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from shortcutscope.errors import InputError
from shortcutscope.extras import require
from shortcutscope.models.preprocessing import Preprocessing
from shortcutscope.models.sources.source import Factory, ModelSource, Stored, suggestion

#: Side of the input, by the start of a name.
SIDES = {"densenet": 224, "resnet": 512}
ARCHITECTURES = ("densenet121", "densenet161", "densenet169", "densenet201", "resnet50", "resnet101")


def _package() -> Any:
    with warnings.catch_warnings():  # it silences all warnings of the process
        return require("torchxrayvision", "xrv", "a model of torchxrayvision")


def _entry(name: str) -> Mapping[str, Any] | None:
    """What the package knows of weights; None for an architecture."""
    known: Mapping[str, Mapping[str, Any]] = _package().models.model_urls
    names = [key for key in known if key.startswith(tuple(SIDES))]
    if name in ARCHITECTURES:
        return None
    if name not in names:
        every = [*names, *ARCHITECTURES]
        raise InputError(
            f"torchxrayvision has no classifier {name!r}{suggestion(name, every)}; there are "
            f"{', '.join(every)}"
        )
    return known[name]


def _factory(name: str) -> Factory:
    entry = _entry(name)
    labels = None if entry is None else list(entry["labels"])
    own = len(labels or _package().datasets.default_pathologies)

    def build(num_classes: int | None = None, in_channels: int = 1) -> nn.Module:
        models = _package().models
        count = own if num_classes is None else num_classes
        if name.startswith("resnet"):
            from torchvision import models as plain

            model: Any = getattr(plain, name.partition("-")[0])(num_classes=count)
            model.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        else:
            shape = models.get_densenet_params(name.partition("-")[0])
            model = models.DenseNet(num_classes=count, in_channels=in_channels, **shape)
        if count == own:
            model.pathologies = labels or list(_package().datasets.default_pathologies)
        return model  # type: ignore[no-any-return]

    return build


def _stored(name: str) -> Stored | None:
    entry = _entry(name)
    if entry is None:
        return None
    url = str(entry["weights_url"])
    return Stored(Path(_package().utils.get_cache_dir()) / url.rpartition("/")[2], url)


def _preprocessing(name: str, weights: str | None) -> Preprocessing:
    """Grey values from -1024 to 1024, and the middle square at the side that the network takes."""
    entry = _entry(name)
    side = SIDES["resnet" if name.startswith("resnet") else "densenet"]
    side = side if entry is None else int(entry["input_resolution"])
    return Preprocessing(f"xrv:{name}", "L", (-1024.0, 1024.0), (side, side), crop="square", levels=None)


SOURCE = ModelSource(_factory, preprocessing=_preprocessing, stored=_stored)
