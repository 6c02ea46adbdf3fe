"""Formats that cannot be loaded here, with what to do instead."""

from __future__ import annotations

from shortcutscope.errors import InputError
from shortcutscope.models.sources.source import Factory, ModelSource


def _onnx(name: str) -> Factory:
    raise InputError(
        f"onnx:{name}: an ONNX file is a graph for running, which is not converted to PyTorch here. Load the "
        "PyTorch network that it was exported from: "
        "package.module:factory, with its checkpoint as weights= (--weights)"
    )


def _keras(name: str) -> Factory:
    raise InputError(
        f"keras:{name}: networks of Keras are not converted to PyTorch here. Build the same network in "
        "PyTorch and copy its weights layer by layer (those of timm and torchvision exist for most Keras "
        "applications), then give package.module:factory and --weights"
    )


ONNX, KERAS = ModelSource(_onnx), ModelSource(_keras)
