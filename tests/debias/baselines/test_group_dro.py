from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from shortcutscope.debias.baselines import group_dro as module
from shortcutscope.debias.baselines.group_dro import GroupDRO, group_dro
from shortcutscope.debias.groups import group_by
from shortcutscope.debias.objective import Batch
from shortcutscope.errors import InputError


@pytest.fixture
def labels(problem) -> np.ndarray:
    return problem.train.frame["label"].to_numpy()


def _batch(images: torch.Tensor, labels: np.ndarray, rows: list[int]) -> Batch:
    index = torch.tensor(rows)
    return Batch(images[index], torch.from_numpy(labels)[index], index)


@pytest.mark.parametrize("n_scores", [1, 2])
def test_q_and_loss_follow_a_loop(n_scores: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)
    carries = np.tile([0.0, 1.0], 10)
    carries[[3, 17]] = np.nan
    groups = group_by(labels, carries)
    objective = GroupDRO(groups, eta=0.5, adjustment=0.3)
    model = nn.Linear(4, n_scores)
    images = torch.from_numpy(rng.normal(size=(20, 4))).float()
    q = [0.25] * 4
    # The second batch has no sample of label 1 with the concept.
    for rows in ([0, 1, 2, 3, 10, 11, 17], [0, 1, 5, 10, 12, 14]):
        terms = objective(model, _batch(images, labels, rows))
        losses: list[float] = []
        for row in rows:
            z = model(images[row]).detach()
            z = torch.cat([torch.zeros(1), z]) if n_scores == 1 else z
            losses.append(-float(z.log_softmax(0)[labels[row]]))
        mean = [0.0] * 4
        for group in range(4):
            own = [loss for loss, row in zip(losses, rows, strict=True) if groups.index[row] == group]
            mean[group] = sum(own) / len(own) if own else 0.0
            q[group] *= math.exp(0.5 * (mean[group] + 0.3 / math.sqrt(groups.counts[group])))
        q = [value / sum(q) for value in q]
        unknown = [loss for loss, row in zip(losses, rows, strict=True) if groups.index[row] < 0]
        known = 1 - len(unknown) / len(rows)
        assert objective.q.tolist() == pytest.approx(q, rel=1e-5)
        assert float(terms["group_dro"].detach()) == pytest.approx(
            known * sum(a * b for a, b in zip(q, mean, strict=True)), rel=1e-5
        )
        assert float(terms["ce_unknown"].detach()) == pytest.approx(sum(unknown) / len(rows), abs=1e-6)


def test_q_is_kept_in_checkpoints_and_rests_in_evaluation() -> None:
    labels, carries = np.repeat([0, 1], 4), np.tile([0.0, 1.0], 4)
    objective = GroupDRO(group_by(labels, carries), eta=1.0)
    images = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    batch = _batch(images, labels, list(range(8)))
    objective(nn.Linear(3, 2), batch)
    assert list(objective.state_dict()) == ["q"]
    before = objective.q.clone()
    objective.eval()
    objective(nn.Linear(3, 2), batch)
    assert torch.equal(objective.q, before)
    assert float(before.sum()) == pytest.approx(1)


def test_recipe(problem, labels) -> None:
    outcome = group_dro(problem)
    assert outcome.steps == 2
    assert sum(outcome.details["q"].values()) == pytest.approx(1, abs=1e-5)
    assert any("weight decay 0.1" in note for note in outcome.notes)
    assert not group_dro(problem, weight_decay=None).notes
    with pytest.raises(InputError, match="'label 0 with the concept'"):
        group_dro(replace(problem, carries=labels.astype(float)))


def test_processes_that_share_a_batch_add_up_to_one(monkeypatch) -> None:
    labels, carries = np.repeat([0, 1], 5), np.array([0, 1, 0, 1, np.nan] * 2)
    images = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(3, 2)
    parts = ([0, 1, 2, 5], [3, 4, 6, 7, 8, 9])

    def loss_of(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        objective = GroupDRO(group_by(labels, carries), eta=0.5)
        return sum(objective(model, _batch(images, labels, rows)).values()).detach(), objective.q

    alone, q = loss_of(sorted(parts[0] + parts[1]))
    summed = []
    monkeypatch.setattr(module, "_whole_batch", lambda values: summed.append(values) or values)
    for part in parts:
        loss_of(part)
    monkeypatch.setattr(module, "_whole_batch", lambda values: summed[0] + summed[1])
    shares = [(loss_of(part), len(part) / 10) for part in parts]
    assert float(sum(loss * share for (loss, _), share in shares)) == pytest.approx(float(alone), rel=1e-5)
    assert all(torch.allclose(other, q) for (_, other), _ in shares)
