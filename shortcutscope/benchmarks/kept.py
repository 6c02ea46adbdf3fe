"""Networks that a benchmark trains once and keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save
from torch import nn

from shortcutscope.files import write_atomically


def kept_network(path: Path, network: nn.Module, make: Callable[[], nn.Module]) -> nn.Module:
    """The network with the weights of a file, which are those of `make` where there is none yet."""
    if not path.exists():
        tensors = {key: value.cpu().contiguous() for key, value in make().state_dict().items()}
        write_atomically(path, lambda file: file.write(save(tensors)))
    network.load_state_dict(load_file(path))
    return network.eval()
