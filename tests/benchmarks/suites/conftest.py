"""What the suites of pretrained networks are tested with."""

from __future__ import annotations

import pytest

from shortcutscope.benchmarks import models, pretrained_networks, pretraining
from shortcutscope.benchmarks.debias_data import CohortSize
from shortcutscope.planting.thin import thin_resnet18


@pytest.fixture
def thin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code with a thin network and few, small images."""
    network = lambda side, n_classes, seed: thin_resnet18(n_classes, 3, seed=seed)  # noqa: E731
    monkeypatch.setitem(pretraining.ARCHITECTURES, "resnet18", network)
    monkeypatch.setattr(pretrained_networks, "QUICK_SIZE", CohortSize(32, 200, 240, "RGB"))
    monkeypatch.setattr(models, "POOL_SIZE", 600)
