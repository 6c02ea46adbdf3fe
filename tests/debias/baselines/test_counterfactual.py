from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines import counterfactual as module
from shortcutscope.debias.baselines.counterfactual import counterfactual_augmentation, with_twins
from shortcutscope.errors import InputError


def _tinted(n: int = 40) -> ImageTable:
    """Pictures of noise whose mean grey tells the label."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    images = rng.normal(0.35 + 0.3 * labels[:, None, None, None], 0.05, (n, 1, 16, 16)).clip(0, 1)
    return ImageTable.from_arrays(images.astype(np.float32), labels=labels)


def test_a_twin_is_its_original_with_the_grey_level_of_another() -> None:
    table = _tinted()
    twins = with_twins(table, "offset", 3, seed=1)
    n = len(table)
    assert len(twins) == 4 * n
    for i in range(n):
        assert torch.equal(twins.image(i), table.image(i))
    source = twins.source
    for i in range(n, 4 * n):
        own, donor, twin = table.image(i % n), table.image(int(source.donors[i - n])), twins.image(i)
        assert float(twin.mean()) == pytest.approx(float(donor.mean()), abs=2e-3)
        centred = own - own.mean()
        assert torch.allclose(twin - twin.mean(), centred, atol=5e-3)
    frame = twins.frame
    assert (frame["label"].to_numpy() == np.tile(table.frame["label"].to_numpy(), 4)).all()
    assert frame["sample_id"].is_unique


def test_among_twins_the_property_tells_nothing_of_the_label() -> None:
    table = _tinted(200)
    twins = with_twins(table, "exposure", 4, seed=0)
    n = len(table)
    grey = np.array([float(twins.image(i).mean()) for i in range(len(twins))])
    labels = twins.frame["label"].to_numpy()
    assert abs(np.corrcoef(grey[:n], labels[:n])[0, 1]) > 0.9
    assert abs(np.corrcoef(grey[n:], labels[n:])[0, 1]) < 0.15


@pytest.mark.parametrize(("n", "twins"), [(40, 3), (2, 4), (5, 5)])
def test_no_image_gives_to_itself_and_all_give_alike(n, twins) -> None:
    donors = module._donors(n, twins, seed=3)
    assert (donors != np.tile(np.arange(n), twins)).all()
    assert (np.bincount(donors, minlength=n) == twins).all()


def test_the_transform_is_that_of_the_table() -> None:
    table = _tinted().with_transform(lambda image: image.expand(3, -1, -1) * 2 - 1)
    twins = with_twins(table, "offset", 1, seed=0)
    assert twins[len(table)][0].shape == (3, 16, 16)
    assert twins.fingerprint() != with_twins(table, "offset", 1, seed=5).fingerprint()


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
