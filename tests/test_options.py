"""The groups of options: what they refuse, and that none is missing from the typed lists."""

from __future__ import annotations

from dataclasses import fields

import pytest

import shortcutscope as ss
from shortcutscope.debias.distillation.options import Distillation, DistillationChoices
from shortcutscope.debias.options import SAID_ELSEWHERE, RecipeOptions, refuse_said_elsewhere
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.errors import InputError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ss.Running(batch_size=0), "batch_size=0; it must be"),
        (lambda: ss.Running(on_unreadable="ignore"), "allowed are raise, skip"),
        (lambda: ss.Running(device="nowhere"), "there are cpu"),
        (lambda: ss.Statistics(n_permutations=10), "n_permutations=10; it must be"),
        (lambda: ss.Scanning(shard_rows=0), "shard_rows=0"),
        (lambda: ss.Scanning(attribution="gradient"), "say 'gradient_x_activation'"),
        (lambda: ss.Drawing(method="magic"), "allowed are fusion, clarc"),
        (lambda: ss.Drawing(threshold=2.0), "threshold=2.0"),
        (lambda: ss.Judging(draws=0), "draws=0"),
        (lambda: ss.Retraining(start="modle"), "start=modle"),
    ],
)
def test_what_an_option_may_not_be_is_refused_when_the_group_is_made(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_stage_refuses_what_it_does_not_read():
    with pytest.raises(InputError, match=r"Running\(workers=2\): annotate does not read it"):
        ss.Running(workers=2, batch_size=3).require_only("annotate", "batch_size")


def test_the_options_of_all_recipes_are_listed():
    taken = {name for recipe in RECIPES for name in RECIPES[recipe].options}
    own = {"training"}  # of `debias` itself
    assert taken - own - set(SAID_ELSEWHERE) == set(RecipeOptions.__annotations__)
    assert set(DistillationChoices.__annotations__) == {field.name for field in fields(Distillation)}


def test_options_with_a_place_of_their_own_are_refused():
    with pytest.raises(InputError, match=r"say training=Retraining\(start=...\)"):
        refuse_said_elsewhere({"start": "fresh"})
