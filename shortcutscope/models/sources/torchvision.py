"""``torchvision:NAME``."""

from __future__ import annotations

from typing import Any

from shortcutscope.errors import InputError
from shortcutscope.models.preprocessing import Preprocessing, require_same
from shortcutscope.models.sources.source import Factory, ModelSource, suggestion


def _factory(name: str) -> Factory:
    from torchvision import models

    names = models.list_models()
    if name not in names:
        raise InputError(f"torchvision has no model {name!r}{suggestion(name, names)}")
    return models.get_model_builder(name)  # type: ignore[no-any-return]


def _preprocessing(name: str, weights: str | None) -> Preprocessing:
    """As of published weights; of the default ones where none are named."""
    from torchvision import models

    _factory(name)
    published = models.get_model_weights(name)
    try:
        chosen: Any = published[weights or "DEFAULT"]
    except KeyError:
        there = ", ".join(published.__members__)
        raise InputError(f"torchvision has no weights {weights!r} of {name}; there are {there}") from None
    preset = chosen.transforms()
    origin = f"torchvision:{name} ({chosen.name})"
    if type(preset).__name__ != "ImageClassification":
        raise InputError(f"{origin} is no classifier of images: it has no preprocessing of one")
    (side,), (cut,) = preset.resize_size, preset.crop_size
    own = Preprocessing(
        origin,
        "RGB",
        resize=side,
        interpolation=preset.interpolation.value,
        crop=(cut, cut),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    return require_same(own, preset)


SOURCE = ModelSource(_factory, lambda weights: {"weights": weights}, _preprocessing)
