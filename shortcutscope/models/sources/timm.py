"""``timm:NAME``."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

from shortcutscope.errors import InputError
from shortcutscope.models.preprocessing import MEND, Preprocessing, require_same
from shortcutscope.models.sources.source import Factory, ModelSource, suggestion


def _factory(name: str) -> Factory:
    import timm

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise InputError(f"timm has no model {name!r}{suggestion(architecture, timm.list_models())}")
    return partial(timm.create_model, name)


def _preprocessing(name: str, weights: str | None) -> Preprocessing:
    """As timm evaluates the published weights of a name."""
    import timm

    _factory(name)
    published, data = cast(Any, timm.get_pretrained_cfg(name)), cast(Any, timm.data)
    if published is None:
        raise InputError(f"timm knows no preprocessing of {name!r}: it has no published weights. {MEND}")
    config = data.resolve_data_config(pretrained_cfg=published.to_dict())
    channels, height, width = config["input_size"]
    scaled = [math.floor(side / config["crop_pct"]) for side in (height, width)]
    kept = config["crop_mode"] == "center" and scaled[0] == scaled[1]
    own = Preprocessing(
        f"timm:{name}",
        "RGB" if channels == 3 else "L",
        resize=scaled[0] if kept else (scaled[0], scaled[1]),
        interpolation=config["interpolation"],
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    return require_same(own, data.create_transform(**config, is_training=False))


SOURCE = ModelSource(
    _factory, lambda weights: {"pretrained": True} if weights == "DEFAULT" else None, _preprocessing
)
