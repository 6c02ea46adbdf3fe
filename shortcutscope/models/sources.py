"""Where models come from by name: the ``torchvision`` of ``torchvision:resnet18``."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from shortcutscope.errors import InputError
from shortcutscope.registry import Entry, Registry
from shortcutscope.types import JSON

Factory = Callable[..., Any]


@dataclass(frozen=True)
class ModelSource:
    """Architectures by name.

    Attributes
    ----------
    factory
        Gives the factory of an architecture, which is called with keywords and returns a module; raises
        `InputError` for a name that it does not know.
    published
        How a factory is asked for published weights of a name, or None where they are no published ones. A
        source that has such builds networks with random weights where none are asked for.
    """

    factory: Callable[[str], Factory]
    published: Callable[[str], JSON | None] | None = None


def suggestion(name: str, names: Iterable[str]) -> str:
    """What was meant, as the end of an error's text; empty where nothing is like it."""
    close = difflib.get_close_matches(name, list(names), n=4)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _torchvision(name: str) -> Factory:
    from torchvision import models

    names = models.list_models()
    if name not in names:
        raise InputError(f"torchvision has no model {name!r}{suggestion(name, names)}")
    return models.get_model_builder(name)  # type: ignore[no-any-return]


def _timm(name: str) -> Factory:
    import timm

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise InputError(f"timm has no model {name!r}{suggestion(architecture, timm.list_models())}")
    return partial(timm.create_model, name)


#: Sources by name; besides modules and files of Python, see `shortcutscope.models.loading`.
SOURCES = Registry[ModelSource](
    "model source",
    "shortcutscope.model_sources",
    {
        "torchvision": Entry(
            ModelSource(_torchvision, lambda weights: {"weights": weights}), "torchvision's classifiers"
        ),
        "timm": Entry(
            ModelSource(_timm, lambda weights: {"pretrained": True} if weights == "DEFAULT" else None),
            "PyTorch Image Models",
        ),
    },
)
