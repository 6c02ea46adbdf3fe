"""How often the host waits for the device: what stands still meanwhile is the device."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pretend_device import DEVICE, traffic
from small_study import pictures
from torch import nn

import shortcutscope as ss
from shortcutscope.audit.context import Context, ExamineSettings
from shortcutscope.audit.interventions.rerun import ConceptEdit, Look, rerun
from shortcutscope.models.frozen import frozen
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet
from shortcutscope.probes.usage import fit_projection
from shortcutscope.scan.scanner import scan

BATCH = 16


def table(batches: int) -> ss.ImageTable:
    images, frame = pictures(BATCH * batches, seed=2)
    return ss.ImageTable.from_arrays(images, frame.drop(columns="image"))


def network() -> nn.Module:
    with seeded(1):
        return ThinResNet(width=4, blocks=(1, 1)).eval()


def of_a_batch(count: Counter[str], fewer: Counter[str], batches: int) -> dict[str, float]:
    """What a batch adds, by line."""
    return {line: (n - fewer[line]) / batches for line, n in count.items() if n != fewer[line]}


@pytest.mark.parametrize(
    ("attribution", "target"),
    [
        ("lrp", "predicted"),
        *(("gradient_x_activation", target) for target in ("predicted", "label", "every")),
    ],
)
def test_a_scanned_batch_is_waited_for_once(tmp_path, attribution, target):
    scanning = ss.Scanning(attribution=attribution, target=target, strict=True)
    counted = []
    for batches in (2, 5):
        with traffic() as passed:
            running = ss.Running(device=DEVICE, batch_size=BATCH, progress=False)
            scan(network(), table(batches), tmp_path / str(batches), scanning=scanning, running=running)
        counted.append(passed)
    few, many = counted
    waits, sent = of_a_batch(many.waits, few.waits, 3), of_a_batch(many.sent, few.sent, 3)
    assert sum(waits.values()) == 1, waits
    assert not sent


@pytest.mark.parametrize(("n_concepts", "n_layers"), [(1, 1), (3, 2)])
def test_a_batch_is_waited_for_once_in_use_and_extent_together(tmp_path, n_concepts, n_layers):
    data, running = table(5), ss.Running(device=DEVICE, batch_size=BATCH, progress=False)
    scanned = scan(network(), data, tmp_path / "scan", running=running)
    layers, counted = scanned.layers, []
    with frozen(network(), DEVICE) as model:
        settings = ExamineSettings.of(ss.Statistics(), running, scanned.head)
        context = Context.of(model, scanned, data, None, None, settings)
        for batches in (2, 5):
            rows, halves = np.arange(BATCH * batches), np.arange(len(data)) // 2 % 2.0
            out = {x: fit_projection(scanned.activation(x), halves, context.labels) for x in layers}
            names = [str(k) for k in range(n_concepts)]
            edits = [ConceptEdit(k, x, [(rows, out[x])]) for k in names for x in layers[-n_layers:]]
            vectors = {layers[0].name: np.ones((len(rows), layers[0].channels))}
            with traffic() as passed:
                rerun(context, edits, [Look(k, rows, vectors) for k in names])
            counted.append(passed)
    few, many = counted
    waits = of_a_batch(many.waits, few.waits, 3)
    assert sum(waits.values()) == 1, waits
