"""Precisions that a device can train a model in."""

import pytest
import torch
from torch import nn

from shortcutscope.debias.training import hardware
from shortcutscope.debias.training.hardware import usable_precision
from shortcutscope.planting.thin import simba_cnn3d, thin_resnet1d, thin_resnet18

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "expected"),
    [(thin_resnet18(), "bf16"), (thin_resnet1d(), "bf16"), (simba_cnn3d(width=2), "fp32")],
)
def test_volumes_are_not_trained_in_bfloat16_on_a_processor(model, expected, monkeypatch):
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: True)
    precision, note = usable_precision(CPU, "bf16", model)
    assert precision == expected
    assert (note is None) == (expected == "bf16")
    assert usable_precision(torch.device("cuda"), "bf16", model) == ("bf16", None)


def test_what_a_processor_has_not_is_float32(monkeypatch):
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: False)
    model = nn.Linear(2, 2)
    assert "no bfloat16" in str(usable_precision(CPU, "bf16", model)[1])
    assert "needs a CUDA device" in str(usable_precision(CPU, "fp16", model)[1])
    assert usable_precision(CPU, "fp32", model) == ("fp32", None)
