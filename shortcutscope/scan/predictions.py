"""Scores of a model on all samples of a table, without anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output
from shortcutscope.models.heads.targets import find_logits, require_finite
from shortcutscope.progress import progress_bar
from shortcutscope.scan.batches import batches

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable


def predict_logits(
    model: nn.Module,
    table: ImageTable,
    batch_size: int = 256,
    *,
    output: Output = None,
    progress: bool = False,
) -> Tensor:
    """Logits of every sample, with the model in evaluation mode and given back as it was.

    Parameters
    ----------
    model
        Classifier, run on the device where it is.
    table
        Samples.
    batch_size
        Samples per forward pass.
    output
        Which scores are read, see `find_logits`.
    progress
        Show a bar.

    Returns
    -------
    logits
        float32 of shape (N, K) on the CPU.

    Raises
    ------
    InputError
        An empty table, or a batch size below 1.
    ModelError
        The model returns NaN or infinite scores.

    Examples
    --------
    >>> ss.predict_logits(model, data).shape
    torch.Size([120, 2])
    """
    if len(table) == 0 or batch_size < 1:
        raise InputError(
            f"{len(table)} samples in batches of {batch_size}: give at least one sample and a batch size of "
            "1 or more"
        )
    anchor = next(model.parameters(), None)
    device = torch.device("cpu") if anchor is None else anchor.device
    parts = []
    count = -(-len(table) // batch_size)
    with frozen(model), torch.inference_mode():
        read = batches(table, batch_size)
        for images, _, _ in progress_bar(read, desc="predict", total=count, unit="batch", progress=progress):
            parts.append(find_logits(model(images.to(device)), output).float().cpu())
    # Cloned outside of inference mode, so that callers may compute gradients with them.
    logits = torch.cat(parts).clone()
    require_finite(logits)
    return logits
