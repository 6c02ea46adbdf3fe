from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from shortcutscope.debias.baselines.held_out_head import held_out_head, worst_group
from shortcutscope.errors import InputError
from shortcutscope.models.fingerprint import model_fingerprint


def _scores(model, table) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.stack([image for image, _, _ in table])).double()


def test_the_biased_network_sees_a_share_of_its_own_samples_and_says_so(problem) -> None:
    head = held_out_head(problem, "afr")
    assert head.model is problem.model
    assert len(head.table) + len(head.trained_on) == len(problem.train)
    assert len(head.table) / len(problem.train) == pytest.approx(0.2, abs=0.03)
    assert "which the network has learnt" in head.notes[0]
    torch.testing.assert_close(head.logits, _scores(problem.model, head.table), rtol=1e-4, atol=1e-4)


def test_validation_samples_are_the_held_out_ones(problem, tables) -> None:
    head = held_out_head(replace(problem, validation=tables["held_out"]), "afr")
    assert head.table is tables["held_out"]
    assert head.trained_on is problem.train
    assert not head.notes


def test_a_fresh_network_is_not_trained_on_what_is_held_out(problem) -> None:
    head = held_out_head(replace(problem, start="fresh"), "afr")
    held, rest = (set(table.frame["group"]) for table in (head.table, head.trained_on))
    assert not held & rest
    assert head.trained.steps == 2
    assert model_fingerprint(head.model) != model_fingerprint(problem.model)
    outcome = head.outcome(head.weight, head.bias)
    torch.testing.assert_close(_scores(outcome.model, head.table), head.logits, rtol=1e-4, atol=1e-4)
    assert outcome.details["held_out_wrong"] == int(head.wrong.sum())


def test_a_class_without_held_out_samples_is_refused(problem, tables) -> None:
    labels = tables["held_out"].frame["label"].to_numpy()
    few = tables["held_out"].take(np.append(np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[:1]))
    with pytest.raises(InputError, match="class 1 has 1 held-out samples, and 2 or more"):
        held_out_head(replace(problem, validation=few), "afr")


def test_worst_group_is_over_the_groups_that_occur() -> None:
    right = np.array([True, False, True, True, True])
    labels, groups = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1])
    assert worst_group(right, labels, groups) == (0.5, pytest.approx(2.5 / 3))
