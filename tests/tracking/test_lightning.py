"""Lightning's callback audits at the end, and every few epochs, and leaves the training as it was."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import small_study
import torch
from torch import nn

import shortcutscope as ss
from shortcutscope.audit.audited_data import ConceptRequest
from shortcutscope.errors import InputError

FAST = {"statistics": ss.Statistics(50, 20), "running": ss.Running(progress=False)}


@pytest.fixture
def lightning(monkeypatch):
    """The part of Lightning that the callback meets."""
    package, pytorch = ModuleType("lightning"), ModuleType("lightning.pytorch")
    pytorch.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning", package)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", pytorch)
    return pytorch


def fit(callback, module, epochs):
    """The hooks in Lightning's order."""
    logged = []
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.append((step, values)))
    trainer = SimpleNamespace(
        current_epoch=0,
        max_epochs=epochs,
        global_step=0,
        is_global_zero=True,
        loggers=[logger],
        fast_dev_run=False,
    )
    callback.on_fit_start(trainer, module)
    for _ in range(epochs):
        module.train()
        trainer.global_step += 10
        callback.on_train_epoch_end(trainer, module)
        assert module.training
        trainer.current_epoch += 1
    callback.on_fit_end(trainer, module)
    return logged


def data():
    images, frame = small_study.pictures(120)
    return ss.ImageTable.from_arrays(
        images[:, None], frame.drop(columns="image"), sample_id="sample_id", transform=ss.Normalize(0.3, 0.25)
    )


class Module(nn.Module):
    """As a LightningModule has its network."""

    def __init__(self):
        super().__init__()
        self.net = small_study.tag_reader()

    def forward(self, x):
        return self.net(x)


def test_it_audits_every_few_epochs_and_at_the_end(lightning, tmp_path):
    callback = ss.lightning_callback(
        data(), tmp_path / "run", request=ConceptRequest(["tag"]), every=2, network="net", **FAST
    )
    assert isinstance(callback, lightning.Callback)
    module = Module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    drawn = torch.get_rng_state()
    logged = fit(callback, module, 4)
    assert [audit.path.name for audit in callback.audits] == ["epoch-0002", "epoch-0004"]
    assert [step for step, _ in logged] == [20, 40]
    assert (
        logged[1][1]["shortcuts/tag/robust_auroc"]
        == callback.audits[1]["tag"].effect["robust_auroc"]["value"]
    )
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_what_an_audit_would_refuse_is_refused_before_the_training(lightning, tmp_path):
    callback = ss.lightning_callback(data(), tmp_path / "run", request=ConceptRequest(["nothing"]), **FAST)
    with pytest.raises(InputError, match="nothing"):
        fit(callback, Module(), 1)
    callback = ss.lightning_callback(data(), tmp_path / "run", network="model", **FAST)
    with pytest.raises(InputError, match="there are net"):
        fit(callback, Module(), 1)
    with pytest.raises(InputError, match="ImageTable"):
        ss.lightning_callback(np.zeros(3), tmp_path / "run")
    with pytest.raises(InputError, match="every=0"):
        ss.lightning_callback(data(), tmp_path / "run", every=0)


def test_what_is_not_installed_is_named(monkeypatch, tmp_path):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="pip install lightning"):
        ss.lightning_callback(data(), tmp_path / "run")
