from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines import counterfactual as module
from shortcutscope.debias.baselines.counterfactual import counterfactual_augmentation
from shortcutscope.errors import InputError


def _tinted(n: int = 40) -> ImageTable:
    """Pictures of noise whose mean grey tells the label."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.normal(0.35 + 0.3 * labels[:, None, None, None], 0.05, (n, 1, 16, 16)).clip(0, 1)
    return ImageTable.from_arrays(images.astype(np.float32), labels=labels)


def test_runs_and_says_what_was_done(problem) -> None:
    outcome = counterfactual_augmentation(
        replace(problem, carries=None, clean=None), transfer="noise", twins=2, share=0.5
    )
    assert outcome.steps == 2
    assert outcome.details == {"transfer": "noise", "twins": 2, "share": 0.5, "balanced": False}
    assert "the noise of another training image" in outcome.notes[-1]


def test_the_transfer_is_chosen_by_who_carries_it(problem) -> None:
    table = _tinted(120)
    labels = table.frame["label"].to_numpy()
    carries = labels.astype(float)
    carries[::7] = 1 - carries[::7]
    grey = np.where(carries == 1, 0.7, 0.35)
    rng = np.random.default_rng(2)
    images = rng.normal(grey[:, None, None, None], 0.05, (120, 1, 32, 32)).clip(0, 1).astype(np.float32)
    train = ImageTable.from_arrays(images, labels=labels)
    outcome = counterfactual_augmentation(replace(problem, train=train, carries=carries, clean=None), twins=1)
    assert outcome.details["transfer"] in ("exposure", "offset", "affine", "histogram")


def _framed_and_tinted(n: int = 160) -> tuple[ImageTable, np.ndarray, np.ndarray]:
    """Pictures of which some are brighter, and others framed."""
    rng = np.random.default_rng(2)
    labels = np.arange(n) % 2
    bright, framed = ((rng.random(n) < 0.3 + 0.4 * labels).astype(float) for _ in range(2))
    grey = np.where(bright == 1, 0.7, 0.4)
    images = rng.normal(grey[:, None, None, None], 0.05, (n, 1, 32, 32)).clip(0.05, 1).astype(np.float32)
    images[framed == 1, :, :4] = 0
    return ImageTable.from_arrays(images, labels=labels), bright, framed


def test_of_several_findings_each_gets_a_transfer_beside_the_others(problem) -> None:
    train, bright, framed = _framed_and_tinted()
    two = replace(problem, train=train, carries=bright, concept="bright", beside={"framed": framed})
    outcome = counterfactual_augmentation(replace(two, clean=None), twins=1)
    assert outcome.details["transfer"].startswith("frame, ")
    named = counterfactual_augmentation(two, transfer="exposure,frame", twins=1)
    assert named.details["transfer"] == "frame, exposure"
    assert "of another training image and the exposure (one gamma) of another" in named.notes[1]
    assert [note.split(" with an AUROC")[0].split("carried ")[-1] for note in outcome.notes[-2:]] == [
        "bright", "framed",
    ]  # fmt: skip


def test_a_finding_that_no_transfer_takes_away_is_named(problem) -> None:
    train, bright, _ = _framed_and_tinted()
    random = (np.random.default_rng(5).random(len(bright)) < 0.5).astype(float)
    two = replace(problem, train=train, carries=bright, concept="bright", beside={"discovered 1": random})
    with pytest.raises(InputError, match=r"for 'discovered 1': plain features.*leave this finding out"):
        counterfactual_augmentation(replace(two, clean=None))


def test_balanced_draws_every_group_alike_among_images_and_twins(problem, monkeypatch) -> None:
    given = {}
    original = module.train
    monkeypatch.setattr(
        module, "train", lambda *args, **rest: given.update(of=args[1]) or original(*args, **rest)
    )
    counterfactual_augmentation(problem, transfer="noise", twins=2, share=0.5, balanced=True)
    n = len(problem.train)
    draws = given["of"].draws().numpy()
    index = 2 * problem.train.frame["label"].to_numpy() + problem.carries.astype(int)
    for part in (draws[:n], draws[n : 2 * n] + draws[2 * n :]):
        assert np.bincount(index, part) == pytest.approx(n / 8)
    with pytest.raises(InputError, match="counterfactual-augmentation, balanced, needs the concept"):
        counterfactual_augmentation(replace(problem, carries=None), transfer="noise", balanced=True)


def test_refuses(problem) -> None:
    with pytest.raises(InputError, match=r"give transfer=.*'exposure'.*or which training samples carry it"):
        counterfactual_augmentation(replace(problem, carries=None))
    with pytest.raises(InputError, match="exposures"):
        counterfactual_augmentation(problem, transfer="exposures")
    signals = ImageTable.from_arrays(np.zeros((4, 1, 50), np.float32), labels=[0, 1, 0, 1], dims=1)
    with pytest.raises(InputError, match="'frame' cannot be done to signals"):
        counterfactual_augmentation(replace(problem, train=signals), transfer="frame")
