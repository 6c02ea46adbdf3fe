"""What samples are ranked by: pooled activations of layers, and a filter bank on the images.

Each view is a block of numbers per sample. The early layers see an artifact before the network has mixed it
with the label; the filter bank sees it whatever the network makes of it, but needs the images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from shortcutscope.discover.filters import IMAGE_AXES, image_bank
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.processes import alone
from shortcutscope.retrieval.kept import Blocks, kept
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import Scan, scan

if TYPE_CHECKING:
    from torch import nn

    from shortcutscope.data.table import ImageTable

LayerChoice = Literal["early", "all", "auto"] | Sequence[str]

#: Name of the filter bank's view, beside the names of layers.
INPUT = "input"


@dataclass(frozen=True, eq=False)
class Views:
    """Named blocks of features of the same samples.

    Attributes
    ----------
    blocks
        Name to ``(N, D)``: a layer's ``[mean, max, std]``, or the filter bank under ``"input"``.
    """

    blocks: Blocks

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the views, in order."""
        return tuple(self.blocks)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of features of each view."""
        return tuple(block.shape[1] for block in self.blocks.values())

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """All blocks side by side."""
        return np.concatenate(list(self.blocks.values()), axis=1)

    @property
    def quantity(self) -> str:
        """What the features are, in words that a classifier remembers."""
        return f"{', '.join(self.names)}: activation mean,max,std"

    def only(self, names: Sequence[str]) -> Views:
        """Some of the views."""
        return Views({name: self.blocks[name] for name in names})


def read_views(
    scanned: Scan,
    layers: Sequence[str],
    images: ImageTable | None = None,
    *,
    cache: Path | None = None,
    running: Running | None = None,
) -> Views:
    """Features of a scan's samples, and of their images where these are given or were read before.

    Parameters
    ----------
    scanned
        Of the samples.
    layers
        Names of scanned layers.
    images
        The table that was scanned, in any order, with at least the scan's samples. The filter bank reads
        images; volumes and signals are ranked by layers alone.
    cache
        Folder that keeps the filter bank, so that the images are read once.
    running
        How images are read.

    Raises
    ------
    InputError
        For a layer that was not scanned, or images that lack samples of the scan.
    """
    blocks = {name: np.asarray(scanned.features(name), np.float32) for name in layers}
    ids = [str(i) for i in scanned.samples["sample_id"]]
    in_order = None if images is None else ordered(images, ids)
    pictures = None if in_order is None or len(in_order.shape) != IMAGE_AXES else in_order
    file = None if cache is None else cache / f"{INPUT}.safetensors"
    make = None if pictures is None else partial(_bank_of, pictures, running or Running())
    blocks |= kept(file, ids, make)
    if not blocks:
        raise InputError("there is nothing to rank by; name scanned layers, or give the images")
    return Views(blocks)


def views_of(
    model: nn.Module, table: ImageTable, names: Sequence[str], running: Running | None = None
) -> Views:
    """The same views of new images: a scan of the same layers, and the filter bank where it is one of them.

    Parameters
    ----------
    model
        The network that the named layers are of; given back as it was.
    table
        New images.
    names
        Of the views.
    running
        How they are scanned.
    """
    running = running or Running()
    table = table.keeping(running)  # read by the scan, and for the bank
    layers = [name for name in names if name != INPUT]
    blocks: Blocks = {}
    if layers:
        with alone(), tempfile.TemporaryDirectory() as folder:
            scanning = Scanning(layers, relevance=False)
            new_scan = scan(model, table, Path(folder) / "scan", scanning=scanning, running=running)
            blocks = {name: np.asarray(new_scan.features(name), np.float32) for name in layers}
    if INPUT in names:
        blocks |= _bank_of(table, running)
    return Views(blocks).only(names)


def layer_names(scanned: Scan, layers: LayerChoice) -> list[str]:
    """Names of the chosen layers; ``"auto"`` names all, of which marks choose later.

    Raises
    ------
    InputError
        For a word that is no choice, or a layer that was not scanned.
    """
    everything = [layer.name for layer in scanned.layers]
    if isinstance(layers, str):
        if layers not in ("early", "all", "auto"):
            raise InputError(f"layers={layers!r}; allowed are 'early', 'all', 'auto' or a list of names")
        return early_layers(scanned) if layers == "early" else everything
    return [scanned.layer(name).name for name in layers]


def early_layers(scanned: Scan) -> list[str]:
    """Layers of the first half, where artifacts are plain; at least one."""
    early = [layer.name for layer in scanned.layers if layer.depth <= 0.5]
    return early or [scanned.layers[0].name]


def candidates(scanned: Scan, views: Views) -> list[tuple[str, ...]]:
    """Sets of views that cross-validation over the marks chooses from, the likeliest first."""
    early = [name for name in early_layers(scanned) if name in views.names]
    layers = [name for name in views.names if name != INPUT]
    bank = [INPUT] if INPUT in views.names else []
    offered = [(*early, *bank), (*layers, *bank), tuple(early), tuple(layers), tuple(bank)]
    return list(dict.fromkeys(names for names in offered if names))


def ordered(images: ImageTable, ids: Sequence[str]) -> ImageTable:
    """The images of some samples, in their order.

    Raises
    ------
    InputError
        When some are missing.
    """
    position = {str(name): k for k, name in enumerate(images.frame["sample_id"])}
    missing = [name for name in ids if name not in position]
    if missing:
        raise InputError(
            f"the images lack {len(missing)} of {len(ids)} scanned samples, among them {missing[:5]}; "
            "give the table that was scanned"
        )
    return images.take([position[name] for name in ids])


def _bank_of(table: ImageTable, running: Running) -> Blocks:
    bank = image_bank(
        table, batch_size=running.batch_size, workers=running.workers, progress=running.progress
    )
    return {INPUT: np.asarray(bank.values, np.float32)}
