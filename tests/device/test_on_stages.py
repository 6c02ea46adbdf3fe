"""Every stage with the network on a device that the images are not on: what the CPU gives, to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pretend_device import DEVICE, generators
from small_study import pictures, tag_reader
from torch import nn

import shortcutscope as ss
from shortcutscope.audit.examination import examine
from shortcutscope.debias.training.classifier import Optimizing
from shortcutscope.errors import InputError
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.models.frozen import device_of
from shortcutscope.scan.scanner import scan

HERE = ss.Running(progress=False, batch_size=32)
THERE = ss.Running(progress=False, batch_size=32, device=DEVICE)
STATISTICS = ss.Statistics(n_permutations=100, n_bootstrap=20)
#: Both sides of a comparison; a test's own stage goes through the same steps on either.
SIDES = {"here": HERE, "there": THERE}


def study(n: int, seed: int, agree: float = 0.5) -> ss.ImageTable:
    images, frame = pictures(n, seed=seed, agree=agree)
    return ss.ImageTable.from_arrays(images, frame.drop(columns="image"))


def model() -> nn.Module:
    return tag_reader().eval()


@pytest.fixture(scope="module")
def data() -> ss.ImageTable:
    return study(120, 0)


@pytest.fixture(scope="module")
def train() -> ss.ImageTable:
    return study(60, 1, agree=0.95)


@pytest.fixture(scope="module")
def audits(tmp_path_factory, data, train) -> dict[str, ss.Audit]:
    folder = tmp_path_factory.mktemp("audits")
    return {
        side: ss.audit(
            model(), data, folder / side, concepts=["tag", "coin"], discover=True, train=train,
            statistics=STATISTICS, running=running,
        )
        for side, running in SIDES.items()
    }  # fmt: skip


def close(one: object, other: object, tolerance: float = 2e-3) -> None:
    """Whether two records are the same, up to the rounding of their numbers."""
    if isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key, value in one.items():
            close(value, other[key], tolerance)
    elif isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        assert len(one) == len(other)
        for value, another in zip(one, other, strict=True):
            close(value, another, tolerance)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=tolerance, abs=tolerance, nan_ok=True)
    else:
        assert one == other


def test_an_audit_gives_the_verdicts_and_figures_of_the_cpu(audits):
    here, there = audits["here"], audits["there"]
    assert here["tag"].verdict == "shortcut"
    assert [f.name for f in here.findings] == [f.name for f in there.findings]
    for one, other in zip(here.findings, there.findings, strict=True):
        close(one.to_dict(), other.to_dict())
    assert there.run["device"] == DEVICE.type


def test_the_model_is_given_back_on_its_own_device(data, tmp_path):
    given = model()
    before, tensors = model_fingerprint(given), [p.data_ptr() for p in given.parameters()]
    scan(given, data, tmp_path / "scan", running=THERE)
    assert model_fingerprint(given) == before
    assert [p.data_ptr() for p in given.parameters()] == tensors


@pytest.mark.parametrize(
    ("attribution", "target"),
    [("gradient_x_activation", "predicted"), ("gradient_x_activation", "label"), ("lrp", "every")],
)
def test_a_scan_reads_what_the_cpu_reads(data, tmp_path, attribution, target):
    scanning = ss.Scanning(attribution=attribution, target=target, strict=True)
    here, there = (
        scan(model(), data, tmp_path / side, scanning=scanning, running=running)
        for side, running in SIDES.items()
    )
    assert here.attribution.used == there.attribution.used
    pd.testing.assert_frame_equal(here.samples, there.samples)
    for layer in here.layers:
        for read in ("activation", "relevance"):
            one, other = getattr(here, read)(layer), getattr(there, read)(layer)
            np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-3)


LATER: dict[str, Callable[[ss.Audit, nn.Module, ss.ImageTable, ss.ImageTable, ss.Running], Any]] = {
    "circuit": lambda audit, model, data, train, running: audit["tag"].circuit(
        model, data, judging=ss.Judging(samples=80), running=running
    ).nodes.to_dict("list"),
    "label": lambda audit, model, data, train, running: audit["tag"].label(
        model, train, running=running
    ).values.tolist(),
    "retrieve": lambda audit, model, data, train, running: audit["tag"].retrieve(
        20, images=data
    ).ids,
    "score": lambda audit, model, data, train, running: audit["tag"].retrieval(images=data).score(
        model, train, running
    ).tolist(),
    "predict": lambda audit, model, data, train, running: ss.predict_logits(
        model.to(running.device or "cpu"), data
    ).tolist(),
    "compare": lambda audit, model, data, train, running: ss.compare(
        audit, model, data, model=model, concept="tag", statistics=STATISTICS, running=running
    ).frame.to_dict("list"),
}  # fmt: skip
SLOW = ("compare",)


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=pytest.mark.slow if what in SLOW else ()) for what in LATER]
)
def test_what_follows_an_audit_is_the_same(audits, data, train, what):
    here, there = (LATER[what](audits["here"], model(), data, train, running) for running in SIDES.values())
    close(here, there)


@pytest.mark.parametrize(("method", "moved"), [("fusion", "by the caller"), ("clarc", "by running")])
def test_masks_are_those_of_the_cpu(audits, data, tmp_path, method, moved):
    given, running = (model(), THERE) if moved == "by running" else (model().to(DEVICE), HERE)
    ids = data.frame["sample_id"][:40].tolist()
    options: dict[str, Any] = {"drawing": ss.Drawing(method), "extent": None}
    tag = audits["here"]["tag"]
    here = tag.annotate(model(), data, ids, out=tmp_path / "here", running=HERE, **options)
    there = tag.annotate(given, data, ids, out=tmp_path / "there", running=running, **options)
    assert any(mask.any() for _, mask in here)
    differing = [np.mean(mask != there.mask(name)) for name, mask in here]
    assert np.mean(differing) < 1e-3  # a pixel at the threshold may fall on either side


def test_a_classifier_is_trained_where_it_is(train):
    states = []
    for device in ("cpu", DEVICE):
        network = tag_reader().to(device)
        ss.train_classifier(network, train, epochs=2, optimizing=Optimizing(precision="fp32"), progress=False)
        states.append([p.detach().cpu() for p in network.parameters()])
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("recipe", ["p-clarc", pytest.param("audited-distillation", marks=pytest.mark.slow)])
def test_students_of_the_front_door_are_made_where_the_model_is(audits, data, train, tmp_path, recipe):
    scores = []
    with generators():
        for device in ("cpu", DEVICE):
            student = ss.debias(
                model().to(device),
                train,
                clean=data,
                audit=audits["here"]["tag"],
                recipe=recipe,
                training=ss.Training(steps=2, batch_size=16, precision="fp32"),
                out=tmp_path / str(device),
                running=ss.Running(progress=False),
            )
            assert device_of(student.model).type == torch.device(device).type
            scores.append(ss.predict_logits(student.model, data))
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-3)
    again = ss.Student.open(student.path, model())
    torch.testing.assert_close(ss.predict_logits(again.model, data), scores[1], rtol=1e-3, atol=1e-3)


class Recording(nn.Module):
    """A network that writes down in which precision it answered."""

    def __init__(self) -> None:
        super().__init__()
        self.network = tag_reader()
        self.answers: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.network(x)
        self.answers.append(answer.dtype)
        return answer


def test_mixed_precision_reaches_every_stage(data, tmp_path, monkeypatch):
    network, stages = Recording().eval(), ss.audit.stages

    def examined(*args: Any, **kwargs: Any) -> Any:
        scanned = network.answers[:]
        network.answers.clear()
        result = examine(*args, **kwargs)
        assert scanned[-1] == torch.bfloat16
        return result

    monkeypatch.setattr(stages, "examine", examined)
    mixed = ss.Running(progress=False, batch_size=32, device=DEVICE, precision="bf16")
    audit = ss.audit(network, data, tmp_path / "run", concepts=["tag"], statistics=STATISTICS, running=mixed)
    assert set(network.answers) == {torch.bfloat16}
    assert audit["tag"].used["value"]
    assert not network._forward_hooks
    assert not torch.is_autocast_enabled(DEVICE.type)


def test_a_circuit_takes_the_audited_rows_of_the_given_table(audits, data):
    tag, given = audits["there"]["tag"], {"judging": ss.Judging(samples=80), "running": THERE}
    whole = tag.circuit(model(), data, **given)
    assert repr(whole) == repr(tag.circuit(model(), data.take(np.arange(len(data))[::-1]), **given))
    with pytest.raises(InputError, match="lacks 80 of 120 scanned samples"):
        tag.circuit(model(), data.take(np.arange(40)), **given)
