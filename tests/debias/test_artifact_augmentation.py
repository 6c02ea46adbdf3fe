from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shortcutscope.data.planting import artifact_mask
from shortcutscope.debias import artifact_augmentation as module
from shortcutscope.debias.artifact_augmentation import Pasting, artifact_augmentation
from shortcutscope.debias.materials import Materials
from shortcutscope.debias.objective import Batch
from shortcutscope.errors import InputError


@pytest.fixture
def masked(materials) -> Materials:
    return replace(materials, masks=lambda row: artifact_mask(materials.train, row))


@pytest.fixture
def labels(materials) -> np.ndarray:
    return materials.train.frame["label"].to_numpy()


def test_pixels_of_a_carrier_are_pasted_and_no_others() -> None:
    images = torch.stack([torch.full((1, 2, 2), 5.0), torch.full((1, 2, 2), 7.0)])
    masks = torch.tensor([[[True, False], [False, False]], [[False, False], [True, True]]])
    objective = Pasting(images, masks, torch.tensor([0.0, 1.0, 0.5]))
    assert not objective.state_dict()
    seen = []
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        batch = Batch(torch.zeros(3, 1, 2, 2), torch.zeros(3).long(), torch.tensor([0, 1, 2]), 0.0, generator)
        seen.append(objective.pasted(batch)[:, 0].flatten(1))
    seen = torch.stack(seen)
    assert (seen[:, 0] == 0).all()
    assert {tuple(row) for row in seen[:, 1].tolist()} == {(5, 0, 0, 0), (0, 0, 7, 7)}
    assert float((seen[:, 2] != 0).any(1).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_every_class_carries_the_artifact_alike(masked, labels, monkeypatch) -> None:
    kept = {}

    def spy(materials, objective, name, **options):
        kept.update(objective=objective)
        return original(materials, objective, name, **options)

    original = module.train
    monkeypatch.setattr(module, "train", spy)
    outcome = artifact_augmentation(masked)
    share = outcome.details["share"]
    carries = masked.carries
    assert share == carries[labels == 1].mean()
    chances = kept["objective"]._chances.numpy()
    for label in (0, 1):
        own = labels == label
        assert np.where(carries[own] == 1, 1, chances[own]).mean() == pytest.approx(share, rel=1e-5)
    assert outcome.steps == 2
    assert outcome.details["artifacts"] == int(carries.sum())


def test_masks_alone_are_enough_also_at_full_correlation(masked, labels) -> None:
    def masks(row: int) -> torch.Tensor | None:
        return torch.eye(32, dtype=torch.bool) if labels[row] == 1 else None

    outcome = artifact_augmentation(replace(masked, masks=masks, carries=None), n_artifacts=5)
    assert outcome.details["share"] == 1
    assert outcome.details["artifacts"] == 5
    assert outcome.details["pasted"] == pytest.approx(0.5)


def test_refuses(masked) -> None:
    with pytest.raises(InputError, match="masks is None"):
        artifact_augmentation(replace(masked, masks=None))
    with pytest.raises(InputError, match="no sample that carries the concept has a mask"):
        artifact_augmentation(replace(masked, masks=lambda row: None))
    with pytest.raises(InputError, match=r"\(16, 16\)"):
        artifact_augmentation(replace(masked, masks=lambda row: torch.ones(16, 16)))
    with pytest.raises(InputError, match="for localized artifacts"):
        artifact_augmentation(replace(masked, masks=lambda row: torch.ones(32, 32)))
    with pytest.raises(InputError, match="already"):
        artifact_augmentation(masked, share=0.2)
