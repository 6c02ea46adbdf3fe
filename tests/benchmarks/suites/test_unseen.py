"""Kinds outside the catalogue: what they change, what the suite lists, how it sums up, one case (slow)."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shortcutscope.benchmarks import unseen_networks
from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import unseen
from shortcutscope.benchmarks.unseen_kinds import LOOKED_AT, UNSEEN
from shortcutscope.benchmarks.unseen_networks import Images, UnseenSpec, unseen_case
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import artifact_mask


def settings(cache: Path, data: Path | None = None, quick: bool = False) -> Settings:
    return Settings(quick=quick, seed=0, data=data, cache=cache, jobs=1)


@pytest.fixture
def hands(tmp_path, monkeypatch) -> Path:
    """A folder like MedNIST's with sixty pictures."""
    monkeypatch.setattr(unseen_networks, "N_HELD_OUT", 20)
    monkeypatch.setattr(unseen_networks, "TASKS", {"hands": Images(("Hand",), 40, 36, wrong=0.25)})
    folder, generator = tmp_path / "mednist" / "Hand", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for k in range(60):
        pixels = np.clip(generator.normal(120, 20, (32, 32)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k:03d}.jpeg")
    return tmp_path


@pytest.mark.parametrize("kind", UNSEEN)
@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (60, 90)])
def test_every_kind_is_drawn_as_its_extent_says(kind, shape):
    image = np.random.default_rng(1).uniform(0.3, 0.7, shape).astype(np.float32)
    drawn, mask = UNSEEN[kind].apply(image, sample_id="a", seed=2)
    again, _ = UNSEEN[kind].apply(image, sample_id="a", seed=2)
    assert (drawn == again).all()
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert ((np.abs(drawn - image) > 1 / 255 + 1e-6) == mask).all()
    assert mask.any()
    if UNSEEN[kind].extent == "localized":
        assert mask.mean() < 0.2
    elif kind != "salt":
        assert mask.mean() > 0.5


def test_no_kind_is_of_the_catalogue_and_some_localized_ones_only_judge():
    assert not set(UNSEEN) & set(CATALOGUE)
    localized = {kind for kind, artifact in UNSEEN.items() if artifact.extent == "localized"}
    assert localized > LOOKED_AT
    assert len(localized - LOOKED_AT) >= 6


def test_three_tasks_and_networks_with_mednist_and_phantoms_without(hands, tmp_path):
    listed = unseen.cases(settings(tmp_path, hands))
    assert {c["task"] for c in listed} == {"radiographs", "ct", "hands"}
    assert {c["network"] for c in listed} == {"thin", "resnet18", "vit_tiny"}
    assert {c["kind"] for c in listed} == set(UNSEEN)
    without = unseen.cases(settings(tmp_path))
    assert {c["task"] for c in without} == {unseen_networks.PHANTOMS}
    assert {c["network"] for c in without} == {"thin", "resnet18", "vit_tiny"}
    assert len(unseen.cases(settings(tmp_path, quick=True))) == 3


def test_half_of_the_held_out_images_carry_it_and_truth_is_exact(hands, tmp_path, monkeypatch):
    monkeypatch.setattr(unseen_networks, "train_classifier", lambda model, *_, **__: model)
    study = unseen_case(UnseenSpec("hands", "ring", "resnet18", 3), settings(tmp_path, hands))
    frame = study.held_out.frame
    assert len(study.train) == 36
    assert len(study.held_out) == 20
    assert abs(frame["ring"].mean() - 0.5) <= 0.05
    assert not set(study.train.frame["sample_id"]) & set(frame["sample_id"])
    sizes = [int(artifact_mask(study.held_out, row, "ring").sum()) for row in range(20)]
    assert [size > 0 for size in sizes] == (frame["ring"] == 1).tolist()


def test_too_few_images_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="0 images of CXR are too few"):
        unseen_case(UnseenSpec("radiographs", "ring", "thin", 0), settings(tmp_path))


def finished(kind, extent, **more):
    return {"task": "ct", "kind": kind, "truth": UNSEEN[kind].extent, "extent": extent, **more}


def test_kinds_that_were_looked_at_are_told_apart():
    measured = {"missed": 0.1, "false_mask_rate": 0.0, "wrong": 0.5, "wrong_flagged": 0.9}
    cases = [
        finished("ring", "localized", iou=0.2, spearman=0.9, **measured),
        finished("triangle", "localized", iou=0.8, spearman=0.4, **measured, right_flagged=None),
        finished("discs", "undetermined", iou=0.6, spearman=0.8, **measured, right_flagged=0.2),
        finished("gamma", "localized"),
    ]
    summary = unseen.summarize(cases)
    assert summary["extents"] == {"cases": 4, "right": 0.5, "undetermined": 0.25, "wrong": 0.25}
    assert summary["judging"]["iou"] == pytest.approx(0.7)
    assert summary["judging"]["right_flagged"] == pytest.approx(0.2)
    assert summary["looked_at"]["iou"] == pytest.approx(0.2)
    assert not summary["met"]["right"]
    assert not summary["met"]["wrong"]
    assert summary["met"]["spearman"]


@pytest.mark.slow
def test_a_real_case(tmp_path):
    case = unseen.cases(settings(tmp_path, quick=True))[1]
    measured = unseen.run_case(case, settings(tmp_path, quick=True))
    assert measured["extent"] in ("localized", "undetermined")
    assert measured["iou"] > 0.5
    assert measured["false_mask_rate"] < 0.1
