"""The pretended device is one: a wall, and a count of what passes through it."""

from __future__ import annotations

import pytest
import torch
from pretend_device import DEVICE, traffic
from torch import nn

from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet


def network() -> nn.Module:
    with seeded(3):
        return ThinResNet(width=4, blocks=(1, 1)).eval()


def test_tensors_of_two_devices_do_not_mix() -> None:
    x = torch.rand(2, 1, 16, 16)
    with pytest.raises(RuntimeError, match=r"should be the same|same device"):
        network().to(DEVICE)(x)
    with pytest.raises(RuntimeError, match="same device"):
        x.to(DEVICE) + x
    with pytest.raises(TypeError, match="numpy"):
        x.to(DEVICE).numpy()


def test_it_computes_what_the_host_does_forwards_and_backwards() -> None:
    x = torch.rand(3, 1, 16, 16)
    grads = []
    for device in ("cpu", DEVICE):
        model, leaf = network().to(device), x.clone().to(device).requires_grad_()
        model(leaf)[:, 1].sum().backward()
        grads.append([leaf.grad.cpu(), *(p.grad.cpu() for p in model.parameters())])
    torch.testing.assert_close(*grads)


def test_waits_are_counted_and_copies_that_need_not_be_waited_for_are_not() -> None:
    x = torch.arange(4.0)
    with traffic() as counted:
        there = x.to(DEVICE, non_blocking=True)
        there.mul_(2)
    assert not counted.waits
    assert not counted.sent
    with traffic() as counted:
        assert there.cpu().tolist() == [0, 2, 4, 6]
        assert float(there.sum()) == 12
        assert there[there > 3].shape == (2,)
        x.to(DEVICE)
    assert counted.waits.total() == 3
    assert counted.sent.total() == 1


def test_mixed_precision_is_mixed() -> None:
    model, x = network().to(DEVICE), torch.rand(2, 1, 16, 16).to(DEVICE)
    with torch.no_grad(), torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        half = model(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float().cpu(), network()(x.cpu()).detach(), rtol=0.05, atol=0.05)


def test_views_share_their_memory() -> None:
    results = []
    for device in ("cpu", DEVICE):
        x = torch.arange(24.0).reshape(2, 3, 4).to(device)
        x[:, 1, 2] = x[:, 0, 0] = -1
        x[1].narrow(0, 1, 2)[:, 1:3].mul_(10)
        x.permute(2, 0, 1)[0].unsqueeze(0)[..., -1].add_(100)
        results.append(
            (x.cpu(), x[1, 2].cpu(), x[:, 1:].flatten(1).t().cpu(), x[1].as_strided((2,), (1,)).cpu())
        )
    torch.testing.assert_close(*results)
