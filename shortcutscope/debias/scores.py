"""Which scores of a network a recipe trains: those that were audited, also of one output of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from shortcutscope.audit.record import AuditRecord
from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.heads.head import Head, Output, as_head
from shortcutscope.models.plain import require_plain
from shortcutscope.models.preflight import TRIED, preflight


def trained_head(
    model: nn.Module, tables: Sequence[ImageTable], output: Output, run: Path | None
) -> tuple[Head, tuple[str, ...]]:
    """The head whose scores are trained, and what was assumed of it, in words.

    Parameters
    ----------
    model
        The biased network.
    tables
        Training samples; images of the first are tried.
    output
        What is asked for.
    run
        Of the audit, whose head is taken.

    Raises
    ------
    InputError, ModelError
        As `shortcutscope.models.preflight.preflight`; another head than the audit's.
    """
    head, first = as_head(output), tables[0]
    if run is not None:
        head = AuditRecord.open(run).asked_head(head)
    require_plain(model)
    labels = np.concatenate([table.frame["label"].to_numpy() for table in tables])
    images = torch.stack([first[row][0] for row in range(min(TRIED, len(first)))])
    with frozen(model) as network:
        inputs = images.to(device_of(network))
        check = preflight(network, inputs, head, labels=labels, classes=first.classes)
    assumptions = list(check.assumed)
    if check.no_gradient is not None:
        assumptions.append(f"only what lies behind a gradient is trained: {check.no_gradient}")
    if check.head.label is not None:
        assumptions.append(
            f"trained for {check.head} alone: nothing holds the other outputs, which mean nothing afterwards"
        )
    return check.head, tuple(assumptions)


@contextmanager
def reading(model: nn.Module, head: Head) -> Iterator[None]:
    """Within, the network and the copies that are made of it return the head's scores."""
    if not head.changes:
        yield
        return
    hook = model.register_forward_hook(head)
    try:
        yield
    finally:
        hook.remove()


def of_initial(
    initial: Callable[[int], nn.Module] | None, model: nn.Module, head: Head
) -> Callable[[int], nn.Module] | None:
    """A maker of networks whose scores are read as the model's, where they are of its class."""
    if initial is None or not head.changes:
        return initial

    def make(seed: int) -> nn.Module:
        network = initial(seed)
        if type(network) is type(model):
            network.register_forward_hook(head)
        return network

    return make


def released(model: nn.Module) -> None:
    """Let a network return what it returns by itself again."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, Head):
                del module._forward_hooks[key]
