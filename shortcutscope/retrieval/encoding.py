"""An encoder that is shown the images of an audit: its blocks, whatever it returns."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.data.table import ImageTable
from shortcutscope.data.transform import Transform
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.heads.head import Head
from shortcutscope.models.loading import own_preprocessing
from shortcutscope.options import Running
from shortcutscope.processes import alone
from shortcutscope.retrieval.kept import Blocks
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

GREY, COLOURS = 1, 3


class Encoder(nn.Module):
    """A network with scores beside what it returns: a scan asks for some, and nobody reads these.

    Parameters
    ----------
    network
        Returns a tensor, or a tuple, mapping or object of the Hugging Face kind that holds tensors.
    n_classes
        Of the samples' labels.
    """

    def __init__(self, network: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.network, self.n_classes = network, max(2, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Scores ``(N, K)`` that say nothing."""
        first = next(_tensors_in(self.network(images)), None)
        if first is None:
            raise ModelError(f"the encoder {type(self.network).__name__} returns no tensor of the batch")
        values = first.flatten(1).float()
        # Of unequal weights, since a softmax or a norm makes the plain mean the same for all images.
        mean = (values * torch.linspace(0, 1, values.shape[1], device=values.device)).mean(1)
        return torch.stack([mean * (k + 1) for k in range(self.n_classes)], 1)


@dataclass(frozen=True)
class InAllChannels:
    """Grey images in as many equal channels as an encoder takes.

    Attributes
    ----------
    before, after
        What is done to the image before it, and after.
    """

    before: Transform | None
    after: Transform | None

    def __call__(self, image: Tensor) -> Tensor:
        """Image ``(3, *spatial)`` of one ``(1, *spatial)``."""
        image = image if self.before is None else self.before(image)
        image = image.expand(COLOURS, *image.shape[1:])
        return image if self.after is None else self.after(image)


def blocks_of(encoder: nn.Module, table: ImageTable, running: Running) -> Blocks:
    """Pooled activations of an encoder's blocks, name to ``(N, D)``.

    Parameters
    ----------
    encoder
        Given back as it was.
    table
        As the encoder reads images.
    running
        How they are read.
    """
    scored = Encoder(encoder, int(table.frame["label"].max()) + 1)
    prefix = "network."
    with alone(), tempfile.TemporaryDirectory() as folder:
        made = scan(
            scored,
            table,
            Path(folder) / "scan",
            scanning=Scanning(relevance=False),
            head=Head(link="identity", task="multiclass"),
            running=running,
        )
        return {
            layer.name.removeprefix(prefix): np.asarray(made.features(layer.name), np.float32)
            for layer in made.layers
        }


def as_read_by(encoder: nn.Module, images: ImageTable) -> tuple[ImageTable, str]:
    """The images as the source of an encoder's weights reads them, where that is known; and what was done.

    Raises
    ------
    InputError
        The table cannot give the images so.
    """
    own = own_preprocessing(encoder)
    given = images.shape[0] if own is None else images.image(0).shape[0]
    wanted = _n_channels(encoder)
    in_all = (given, wanted) == (GREY, COLOURS)
    channels = ", grey in all three channels" if in_all else ""
    if own is None:
        table = images.with_transform(InAllChannels(images.transform, None)) if in_all else images
        return table, f"features: the encoder was shown the images as the audited network is{channels}"
    if own.value_range != images.value_range or (wanted not in (None, given) and not in_all):
        low, high = images.value_range
        raise InputError(
            f"features=: {own.origin} reads images as {own}, and the table gives {given} channels of values "
            f"{low:g} to {high:g}. Open them for it, and give "
            "features=(encoder, ImageTable.from_csv(..., **model_preprocessing(encoder).options()))"
        )
    table = images.with_transform(InAllChannels(None, own) if in_all else own)
    return table, f"features: images as {own.origin} reads them{channels}"


def _n_channels(encoder: nn.Module) -> int | None:
    """Channels that the first convolution takes, in the order of definition; None without one."""
    return next((n for m in encoder.modules() if (n := getattr(m, "in_channels", None)) is not None), None)


def _tensors_in(returned: object) -> Iterator[Tensor]:
    if isinstance(returned, Tensor):
        if returned.ndim > 1:
            yield returned
        return
    parts = returned.values() if isinstance(returned, Mapping) else returned
    if isinstance(parts, str) or not hasattr(parts, "__iter__"):
        return
    for part in parts:
        yield from _tensors_in(part)
