"""How often the host waits for the device: what stands still meanwhile is the device."""

from __future__ import annotations

from collections import Counter

import pytest
from pretend_device import DEVICE, traffic
from small_study import pictures
from torch import nn

import shortcutscope as ss
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet
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
