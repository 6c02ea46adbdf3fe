"""The groups of options: what they refuse, and that none is missing from the typed lists."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from torch import nn

import shortcutscope as ss
from shortcutscope.debias.distillation.options import Distillation, DistillationChoices
from shortcutscope.debias.options import SAID_ELSEWHERE, RecipeOptions, refuse_options
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
        refuse_options("erm", {"start": "fresh"})


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("recommended", {"colour": 1}, "no recipe takes an option 'colour'"),
        ("recommended", {"refit": "step"}, "refit='step'; it must be 'never' or 'epoch'"),
        ("mixup", {"alpha": 0}, "alpha=0; it must be a number above 0"),
        ("mixup", {"alpha": "much"}, "alpha='much'; it must be a number above 0"),
        ("lisa", {"p_label": 2}, "p_label=2; it must be a number from 0 to 1"),
        ("jtt", {"upweight": 0.5}, "a number of at least 1"),
        ("jtt", {"first_share": 1.0}, "a number above 0 and below 1"),
        ("lff", {"q": 0}, "q=0; it must be a number above 0 and up to 1"),
        ("group-dro", {"eta": 0}, "eta=0"),
        ("group-dro", {"weight_decay": -1}, "a number of at least 0 or None"),
        ("dann", {"method": "shouting"}, "'reversal' or 'confusion'"),
        ("dann", {"balanced": "yes"}, "it must be True or False"),
        ("dann", {"hidden": 2.5}, "a whole number of at least 1"),
        ("dfr", {"c": [1.0, -1.0]}, "a list of which each is a number above 0"),
        ("dfr", {"n_subsets": 0}, "n_subsets=0"),
        ("dedier", {"teacher": "wise"}, "'specialist'"),
        ("dedier", {"warmup": 1}, "warmup=1"),
        ("dedier", {"layer": 0}, "a name or a number above 0 and up to 1"),
        ("balanced-finetune", {"clean_share": 1.0}, "clean_share=1.0"),
        ("reactive-p-clarc", {"classifier": "tree"}, "'svm'"),
        ("rr-clarc", {"trained": "below"}, "'all' or 'above' or None"),
        ("leace", {"on": "pixels"}, "'positions' or 'pooled'"),
        ("rrr", {"slope": "probabilities"}, "'log-probabilities'"),
        ("rrr", {"strength": float("nan")}, "strength=nan"),
        ("segmentation", {"supervision": "boxes"}, "'box'"),
        ("logit-distillation", {"temperature": 0.0}, "temperature"),
        ("logit-distillation", {"temperature": "hot"}, "temperature='hot'"),
        ("logit-distillation", {"logit_weight": 0.0}, "nothing is left to learn from"),
        ("audited-distillation", {"layers": 3}, "layers=3"),
    ],
)
def test_options_of_recipes_are_refused_when_they_are_given(recipe, options, message):
    with pytest.raises(InputError, match=message):
        refuse_options(recipe, options)


def test_options_of_recipes_that_are_allowed_pass():
    refuse_options("recommended", {"temperature": 2.0, "layers": {"layer1": 1.0}})
    refuse_options("dfr", {"c": [1.0, 0.1], "n_subsets": np.int64(3)})
    refuse_options("dedier", {"teacher": nn.Identity(), "layer": "stem.2", "warmup": 0})
    refuse_options("group-dro", {"weight_decay": None})
    refuse_options("logit-distillation", {"teacher": None, "layers": ["layer1"], "cache": True})
