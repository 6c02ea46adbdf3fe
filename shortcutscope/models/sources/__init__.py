"""Where models come from by name: the ``torchvision`` of ``torchvision:resnet18``."""

from __future__ import annotations

from shortcutscope.models.sources.source import ModelSource
from shortcutscope.registry import Entry, Registry

__all__ = ["REFUSED", "SOURCES", "ModelSource"]

_ROOM = "shortcutscope.models.sources"

#: Of these names nothing can be loaded; they say what to do instead.
REFUSED = ("onnx", "keras")

#: Sources by name; besides modules and files of Python, see `shortcutscope.models.loading`.
SOURCES = Registry[ModelSource](
    "model source",
    "shortcutscope.model_sources",
    {
        "torchvision": Entry(f"{_ROOM}.torchvision:SOURCE", "torchvision's classifiers"),
        "timm": Entry(f"{_ROOM}.timm:SOURCE", "PyTorch Image Models"),
        "hf": Entry(f"{_ROOM}.hugging_face:SOURCE", "a folder of transformers' save_pretrained", "hf"),
        "xrv": Entry(f"{_ROOM}.torchxrayvision:SOURCE", "torchxrayvision's classifiers", "xrv"),
        "monai": Entry(f"{_ROOM}.monai:SOURCE", "MONAI's networks, and its bundles", "monai"),
        "onnx": Entry(f"{_ROOM}.refused:ONNX", "refused, with what to do instead"),
        "keras": Entry(f"{_ROOM}.refused:KERAS", "refused, with what to do instead"),
    },
)
