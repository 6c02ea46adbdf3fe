from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shortcutscope.debias.baselines.disagreement import (
    disagreements,
    largest_of_classes,
    selective_finetuning,
)
from shortcutscope.errors import InputError


def test_disagreement_is_the_divergence_of_the_weaker_network() -> None:
    p, q = torch.tensor([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([[0.4, 0.6], [0.5, 0.5]])
    assert disagreements(p.log(), q.log()).tolist() == pytest.approx(
        [0.9 * 0.8109 - 0.1 * 1.7918, 0.0], abs=1e-3
    )


def test_as_many_of_every_class_are_taken_the_largest_first() -> None:
    costs = torch.tensor([5.0, 1.0, 4.0, 9.0, 2.0, 3.0])
    labels = torch.tensor([0, 0, 0, 1, 1, 0])
    assert largest_of_classes(costs, labels, 2).tolist() == [0, 3]
    # Class 1 has two samples, so that no class gives more.
    assert largest_of_classes(costs, labels, 100).tolist() == [0, 2, 3, 4]
    assert largest_of_classes(costs, labels, 1).tolist() == [0, 3]


@pytest.mark.parametrize("by", ["dropout", "misclassification"])
def test_only_the_last_layer_is_fine_tuned(by: str, problem) -> None:
    outcome = selective_finetuning(problem, by=by, samples=8, head_steps=20)
    assert torch.equal(outcome.model.stem[0].weight, problem.model.stem[0].weight)
    assert not torch.equal(outcome.model.fc.weight, problem.model.fc.weight)
    assert outcome.details["by"] == by
    assert outcome.details["chosen"] == 8


def test_from_new_weights_the_weaker_network_is_stopped_early(problem) -> None:
    outcome = selective_finetuning(replace(problem, start="fresh"), samples=8, head_steps=2)
    assert outcome.details["by"] == "early-stop"
    assert outcome.steps == 2
    assert any("trained for 1 steps of its own" in note for note in outcome.notes)
    with pytest.raises(InputError, match="start='fresh'"):
        selective_finetuning(problem, by="early-stop")


def test_errors_come_first_where_the_loss_chooses(problem) -> None:
    outcome = selective_finetuning(problem, by="misclassification", samples=2)
    assert outcome.details["held_out_wrong"] > 0
    assert "50% of them wrong" in outcome.notes[2] or "100% of them wrong" in outcome.notes[2]
