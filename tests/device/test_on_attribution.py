"""Every attribution method on the device gives the CPU's relevance."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from pretend_device import DEVICE
from torch import Tensor, nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.attribution.lrp import COMPOSITES
from shortcutscope.attribution.methods import METHODS
from shortcutscope.attribution.randomization import Cascade, model_randomization
from shortcutscope.attribution.reference import ZennitReference, reference_composites
from shortcutscope.errors import InputError
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet

OPTIONS = {"integrated_gradients": {"steps": 3}, "smoothgrad": {"copies": 2}}
LAYER = "blocks.1"
NAMES = [*METHODS, *(f"lrp:{name}" for name in COMPOSITES), f"zennit:{next(iter(reference_composites()))}"]


def network() -> nn.Module:
    with seeded(0):
        return ThinResNet(width=4, blocks=(1, 1)).double().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def takes(name: str, layer: str | None) -> bool:
    kind = name.partition(":")[0]
    method = ZennitReference if kind == "zennit" else METHODS[kind]
    return method.takes_input if layer is None else method.takes_layer


@pytest.mark.parametrize("layer", [None, LAYER])
@pytest.mark.parametrize("name", NAMES)
def test_a_method_gives_the_relevance_of_the_cpu(name: str, layer: str | None, x: Tensor) -> None:
    options = {"check": False, **OPTIONS.get(name, {})}
    there = network().to(DEVICE)
    if not takes(name, layer):
        with pytest.raises(InputError, match=name.partition(":")[0]):
            attribute(there, x.to(DEVICE), method=name, layer=layer, **options)
        return
    here = attribute(network(), x, method=name, layer=layer, **options)
    found = attribute(there, x.to(DEVICE), method=name, layer=layer, **options)
    assert (found.reason, found.method) == (here.reason, here.method)
    assert here.relevance.any()
    # Where a map has hardly a negative contribution, alpha-beta divides by their sum.
    torch.testing.assert_close(found.relevance.cpu(), here.relevance, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.score.cpu(), here.score)
    assert torch.equal(found.target.cpu(), here.target)


@pytest.mark.parametrize("name", ["lrp", "gradient_x_activation"])
def test_the_check_gives_the_same_verdict(name: str, x: Tensor) -> None:
    here = attribute(network(), x, method=name, layer=LAYER)
    there = attribute(network().to(DEVICE), x.to(DEVICE), method=name, layer=LAYER)
    assert here.reason is there.reason is None


def test_randomised_networks_give_the_same_maps(x: Tensor) -> None:
    here, there = (
        model_randomization(
            network().to(device), x.to(device), "gradient_x_input", cascade=Cascade(stages=2), progress=False
        )
        for device in ("cpu", DEVICE)
    )
    assert here.passed == there.passed
    pd.testing.assert_frame_equal(here.table, there.table, rtol=1e-6)
