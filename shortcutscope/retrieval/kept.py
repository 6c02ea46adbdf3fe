"""Features of a run's samples that are kept, so that images are read once for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from shortcutscope.files import write_atomically

Blocks = dict[str, npt.NDArray[np.float32]]


def kept(path: Path | None, of: Sequence[str], make: Callable[[], Blocks] | None) -> Blocks:
    """Blocks of features from a file, or made and written there.

    Parameters
    ----------
    path
        A safetensors file; None keeps nothing.
    of
        What the features are of: sample ids, and whatever else must be the same. A file of other things, and
        one that is damaged, is made again.
    make
        Gives the blocks, name to ``(N, D)``; None where they cannot be made, and there are none unless kept.
    """
    stamp = hashlib.sha256("\0".join(of).encode()).hexdigest()
    stored = None if path is None else _stored(path, stamp)
    if stored is not None or make is None:
        return stored or {}
    blocks = make()
    if path is not None:
        names = {f"{number:04d}": name for number, name in enumerate(blocks)}
        metadata = {"of": stamp, "sha256": _checksum(blocks), **names}
        payload = save({number: blocks[name] for number, name in names.items()}, metadata=metadata)
        write_atomically(path, lambda file: file.write(payload))
    return blocks


def _stored(path: Path, stamp: str) -> Blocks | None:
    """The blocks of a file, in order; None where it is another's, or damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        arrays = load_file(path)
        blocks = {metadata[number]: arrays[number] for number in sorted(arrays)}
    except (OSError, KeyError, SafetensorError):
        return None
    same = metadata.get("of") == stamp and metadata.get("sha256") == _checksum(blocks)
    return blocks if same else None


def _checksum(blocks: Blocks) -> str:
    digest = hashlib.sha256()
    for name, block in blocks.items():
        digest.update(f"{name} {block.shape}".encode())
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
