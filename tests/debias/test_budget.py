from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from shortcutscope.debias.baselines.adversarial import adversarial
from shortcutscope.debias.baselines.early_readout import dedier
from shortcutscope.debias.baselines.failure import lff
from shortcutscope.debias.baselines.group_dro import group_dro
from shortcutscope.debias.baselines.mixing import lisa, mixup
from shortcutscope.debias.baselines.two_stage import jtt
from shortcutscope.debias.budget import budget


def test_the_steps_are_those_of_the_biased_table_whatever_is_trained_on(problem) -> None:
    given = replace(problem, training=problem.training.but(steps=None, epochs=4))
    assert budget(given).steps == 4 * (96 // 16)
    assert budget(given, 0.5).steps == 12


@pytest.mark.parametrize("recipe", [adversarial, dedier, group_dro, jtt, lff, lisa, mixup])
def test_what_was_interrupted_goes_on_to_the_same_network(recipe, problem, tmp_path, monkeypatch) -> None:
    training = problem.training.but(steps=6, checkpoint_every=1)
    given = replace(problem, training=training)
    whole = recipe(given).model.state_dict()
    step, taken = torch.optim.AdamW.step, []

    def interrupted(self, *arguments, **options):
        taken.append(1)
        if len(taken) == 5:
            raise KeyboardInterrupt
        return step(self, *arguments, **options)

    kept = replace(given, out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recipe(kept)
    outcome = recipe(kept)
    assert any("gone on" in note for note in outcome.notes)
    assert all(torch.equal(value, whole[name]) for name, value in outcome.model.state_dict().items())
