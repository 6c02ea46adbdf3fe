from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines import artifact_augmentation as module
from shortcutscope.debias.baselines.artifact_augmentation import artifact_augmentation, pasted_table
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.planting.planting import artifact_mask


@pytest.fixture
def masked(problem) -> DebiasProblem:
    return replace(problem, masks=lambda row: artifact_mask(problem.train, row))


@pytest.fixture
def labels(problem) -> np.ndarray:
    return problem.train.frame["label"].to_numpy()


def test_pixels_of_a_carrier_are_pasted_and_no_others(problem) -> None:
    train = problem.train
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[3:9, 20:30] = True
    table = pasted_table(train, {4: 7}, {7: mask})
    expected = train[4][0].clone()
    expected[:, mask] = train[7][0][:, mask]
    assert torch.equal(table[4][0], expected)
    assert torch.equal(table[5][0], train[5][0])
    assert table.frame.equals(train.frame)
    assert table.fingerprint() != pasted_table(train, {4: 8}, {8: mask}).fingerprint()


def _pasted(run: Callable[[], Outcome], monkeypatch) -> tuple[Outcome, ImageTable]:
    kept = {}

    def spy(problem, objective, name, **options):
        kept.update(options)
        return original(problem, objective, name, **options)

    original = module.train
    monkeypatch.setattr(module, "train", spy)
    return run(), kept["table"]


def test_every_class_carries_the_artifact_alike(masked, labels, monkeypatch) -> None:
    carries = masked.carries.copy()
    unknown = int(np.flatnonzero((labels == 0) & (carries == 0))[0])
    carries[unknown] = np.nan
    given = replace(masked, carries=carries)
    outcome, table = _pasted(lambda: artifact_augmentation(given), monkeypatch)
    share = carries[labels == 1].mean()
    assert outcome.details["share"] == share
    for label in (0, 1):
        own = np.flatnonzero(labels == label)
        changed = [row for row in own if not torch.equal(table[row][0], masked.train[row][0])]
        assert not masked.carries[changed].any()
        assert (len(changed) + masked.carries[own].sum()) / len(own) == pytest.approx(share, abs=0.03)
    assert outcome.steps == 2
    assert outcome.details["artifacts"] == int(np.nansum(carries))
    assert "1 samples of unknown concept" in outcome.notes[1]


def test_masks_alone_are_enough_also_at_full_correlation(masked, labels) -> None:
    def masks(row: int) -> torch.Tensor | None:
        return torch.eye(32, dtype=torch.bool) if labels[row] == 1 else None

    outcome = artifact_augmentation(replace(masked, masks=masks, carries=None))
    assert outcome.details == {"share": 1, "artifacts": 48, "pasted": 48}


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
