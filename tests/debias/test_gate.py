"""Samples on which no teacher can be judged are refused before anything is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.distillation import recipe
from shortcutscope.debias.gate import _by_layer, require_testable
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.errors import InputError
from shortcutscope.probes.concept import Concept


def concept_of(table: ImageTable) -> Concept:
    ids = table.frame["sample_id"].to_numpy(str)
    return Concept("tag", table.frame["tag"].to_numpy(float), "metadata", ids)


def test_samples_that_all_agree_with_the_label_cannot_judge(tables: dict[str, ImageTable]) -> None:
    held_out = tables["held_out"]
    concept = concept_of(held_out)
    require_testable(held_out, concept)
    frame = held_out.frame
    agreeing = held_out.take(np.flatnonzero(frame["tag"] == frame["label"]))
    with pytest.raises(InputError, match=r"cannot be judged for 'tag'.*no conflicting samples"):
        require_testable(agreeing, concept)


def test_nothing_is_trained_before_they_are_refused(
    tables: dict[str, ImageTable], problem: DebiasProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = tables["held_out"]
    few = held_out.take(np.arange(6))
    given = replace(problem, judged_on=few, concept=concept_of(held_out))
    monkeypatch.setattr(recipe, "_trained", lambda *args: pytest.fail("a teacher was trained"))
    with pytest.raises(InputError, match="too few"):
        recipe.distil(given)


def test_a_layer_that_was_not_measured_goes_by_its_neighbours() -> None:
    low = np.array([np.nan, 0.5, np.nan, 0.0, np.nan, -0.1, np.nan, -0.9])
    profile = pd.DataFrame(
        {"layer": list("abcdefgh"), "auroc": 0.9, "use": low, "use_low": low, "use_high": low + 0.05}
    )
    passes = dict(zip("abcdefgh", _by_layer(profile)["passes"], strict=True))
    assert [name for name, may in passes.items() if may] == ["d", "e", "f"]
    profile.loc[:6, ["use", "use_low", "use_high"]] = np.nan
    profile.loc[7, ["use_low", "use_high"]] = [-0.05, 0.05]
    assert _by_layer(profile)["passes"].all()
