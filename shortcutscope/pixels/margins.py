"""What the network says of images: its margin towards a class, in logits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import nn

from shortcutscope.errors import InputError
from shortcutscope.models.frozen import device_of
from shortcutscope.models.heads.head import Head
from shortcutscope.models.heads.targets import find_logits, margin, require_finite
from shortcutscope.pixels.scaled_images import ScaledImages
from shortcutscope.types import Floats


@dataclass(frozen=True, eq=False)
class Margins:
    """Reads the margins of edited images.

    Attributes
    ----------
    model
        Lent out by `frozen`.
    images
        How edited images become inputs.
    head
        Which scores are read.
    positive
        The class of the margin.
    batch_size
        Images at a time; so many are in memory.
    """

    model: nn.Module
    images: ScaledImages
    head: Head
    positive: int
    batch_size: int = 64

    def __call__(self, edited: Iterable[Floats]) -> Floats:
        """Margins (N,), float64, of images in shares of the value range.

        Raises
        ------
        InputError
            Images whose inputs differ in shape.
        ModelError
            Scores that are not finite.
        """
        device, parts = device_of(self.model), []
        stream = iter(edited)
        while batch := list(islice(stream, self.batch_size)):
            inputs = [self.images.model_input(image) for image in batch]
            if len({x.shape for x in inputs}) > 1:
                shapes = ", ".join(sorted({str(tuple(x.shape)) for x in inputs}))
                raise InputError(
                    f"the images give inputs of different shapes ({shapes}): give size=, or a transform that "
                    "resizes"
                )
            with torch.inference_mode():
                logits = find_logits(self.model(torch.stack(inputs).to(device)), self.head)
            require_finite(logits)
            parts.append(margin(logits, self.head.read_task, self.positive).double().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty(0)
