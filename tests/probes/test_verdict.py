import numpy as np
import pytest

from shortcutscope.probes.association import associate
from shortcutscope.probes.extent.cells import CellMap
from shortcutscope.probes.extent.measuring import ExtentRule, decide, spread_choice
from shortcutscope.probes.usage import drawn_order
from shortcutscope.probes.verdict import (
    VerdictRule,
    effects,
    layer_weights,
    power,
    qualify_verdict,
    reach_verdict,
    untestable,
)

N = 400
Y = np.arange(N) % 2
RNG = np.random.default_rng(0)
GOES_WITH = (RNG.random(N) < np.where(Y == 1, 0.9, 0.1)).astype(float)
GROUPS = np.arange(N)
ASSOCIATION = associate(GOES_WITH, Y, GROUPS)
RULE = VerdictRule()
COSTS = {"value": 0.3, "interval": (0.2, 0.4), "n": 40}


@pytest.mark.parametrize(
    ("encoded", "used", "effect", "associated", "verdict"),
    [
        (True, True, 0.5, True, "shortcut"),
        (False, True, 0.5, True, "not encoded"),
        (True, False, 0.1, True, "encoded, not used"),
        (True, True, 0.5, False, "encoded and used, not associated"),
        (True, True, -0.5, True, "encoded and used, not associated"),
    ],
)
def test_a_shortcut_is_encoded_and_used_and_associated(encoded, used, effect, associated, verdict):
    reached, reason = reach_verdict(
        encoded=encoded, used=used, effect=effect, association=ASSOCIATION, associated=associated, cost=COSTS
    )
    assert reached == verdict
    assert reason


def reached(cost):
    return reach_verdict(
        encoded=True, used=True, effect=0.5, association=ASSOCIATION, associated=True, cost=cost
    )


def test_s4_a_cost_that_may_be_none_makes_no_shortcut():
    verdict, reason = reached({"value": 0.01, "interval": (-0.02, 0.03), "n": 40})
    assert verdict == "encoded and used, no cost measured"
    assert "-0.02 to +0.03" in reason
    assert "40 samples" in reason
    assert reached({"value": 0.01, "interval": (0.002, 0.03), "n": 40})[0] == "shortcut"


def test_s6_a_cost_that_could_not_be_measured_acquits_nobody_and_is_said():
    verdict, reason = reached({"value": None, "interval": None, "n": 1, "why": "not measured: 1 of class 1"})
    assert verdict == "shortcut"
    assert reason.endswith("what it costs is not measured: 1 of class 1")


BESIDE = {"with": ["tag"], "effect": 0.02, "interval": (-0.02, 0.06), "n_differ": 80, "needed": None}


@pytest.mark.parametrize(
    ("verdict", "statement", "effect", "origin", "qualified"),
    [
        ("shortcut", "explained by", 0.5, "metadata", "explained by another concept"),
        ("encoded and used, not associated", "explained by", 0.5, "metadata", "explained by another concept"),
        ("encoded, not used", "explained by", 0.5, "metadata", "encoded, not used"),
        ("shortcut", "beyond", 0.5, "metadata", "shortcut"),
        ("shortcut", "beyond", -0.5, "metadata", "encoded and used, not associated"),
        ("shortcut", "cannot be told apart from", 0.5, "metadata", "shortcut"),
        ("shortcut", None, 0.5, "picture", "encoded and used, a picture property"),
        ("shortcut", "explained by", 0.5, "picture", "explained by another concept"),
        ("encoded, not used", None, 0.1, "picture", "encoded, not used"),
    ],
)
def test_a_verdict_beside_others_and_on_pictures(verdict, statement, effect, origin, qualified):
    beside = {**BESIDE, "statement": statement} if statement else {}
    found, reason = qualify_verdict(verdict, "because", effect=effect, origin=origin, beside=beside)
    assert found == qualified
    assert ("tag" in reason) == (statement is not None and verdict != "encoded, not used")
    assert qualify_verdict(verdict, "because", effect=effect, origin="file", beside={}) == (
        verdict,
        "because",
    )


@pytest.mark.parametrize(
    ("verdict", "beside", "qualified"),
    [
        ("shortcut", {}, "encoded and used, may be the label"),
        ("encoded and used, no cost measured", {}, "encoded and used, may be the label"),
        ("encoded, not used", {}, "encoded, not used"),
    ],
)
def test_s5_another_kind_of_image_may_be_the_label(verdict, beside, qualified):
    kind = {"shape": 0.96, "texture": 0.94}
    said, reason = qualify_verdict(
        verdict, "because", effect=0.5, origin="discovered", beside=beside, another_kind=kind
    )
    assert said == qualified
    assert reason.startswith("check these labels first") == (said != verdict)


def test_untestable_concepts_say_why():
    aligned = Y.astype(float)
    assert "no conflicting samples" in untestable(aligned, Y, GROUPS, RULE)
    rare = np.zeros(N)
    rare[:4] = 1
    assert "too few carriers: 4" in untestable(rare, Y, GROUPS, RULE)
    one_patient = GROUPS.copy()
    one_patient[GOES_WITH == 1] = 0
    assert "1 patient" in untestable(GOES_WITH, Y, one_patient, RULE)
    assert untestable(GOES_WITH, Y, GROUPS, RULE) is None


def test_costs_do_not_depend_on_the_value_called_present():
    margins = 2.0 * GOES_WITH + 0.5 * Y + RNG.standard_normal(N) - 1
    one = effects(GOES_WITH, Y, GROUPS, margins, ASSOCIATION, n_bootstrap=50, seed=0)
    swapped = effects(
        1 - GOES_WITH, Y, GROUPS, margins, associate(1 - GOES_WITH, Y, GROUPS), n_bootstrap=50, seed=0
    )
    for name, entry in one.items():
        assert swapped[name]["value"] == pytest.approx(entry["value"]), name
    assert one["auroc_gap"]["value"] == pytest.approx(
        one["aligned_auroc"]["value"] - one["robust_auroc"]["value"]
    )
    low, high = one["robust_auroc"]["interval"]
    assert low < one["robust_auroc"]["value"] < high
    assert one["robust_auroc"]["value"] < 0.5 < one["aligned_auroc"]["value"]


def test_s6_figures_over_groups_of_few_patients_are_not_measured():
    carries = Y.astype(float)
    carries[np.flatnonzero(Y == 0)[:20]] = 1
    carries[np.flatnonzero(Y == 1)[0]] = 0
    margins = RNG.standard_normal(N) + Y
    association = associate(carries, Y, GROUPS)
    cost = effects(carries, Y, GROUPS, margins, association, n_bootstrap=50, seed=0)
    for name in ("robust_auroc", "auroc_gap", "balanced_auroc"):
        assert cost[name]["value"] is None
        assert cost[name]["interval"] is None
        assert cost[name]["n"] == 1
        assert "1 patient of class 1 without it; 10 are needed" in cost[name]["why"]
    assert cost["aligned_auroc"]["n"] == 180
    assert cost["worst_group_accuracy"]["n"] == 20
    assert cost["worst_group_accuracy"]["value"] > 0
    same_patient = GROUPS.copy()
    same_patient[(carries == 1) & (Y == 0)] = 0
    cost = effects(carries, Y, same_patient, margins, association, n_bootstrap=50, seed=0)
    assert "1 patient of a class other than 1 with it" in cost["robust_auroc"]["why"]


def test_s6_a_group_that_is_all_wrong_has_no_interval_of_width_zero():
    margins = np.where(Y == GOES_WITH, 2.0 * Y - 1, -(2.0 * Y - 1))
    worst = effects(GOES_WITH, Y, GROUPS, margins, ASSOCIATION, n_bootstrap=50, seed=0)[
        "worst_group_accuracy"
    ]
    assert worst["value"] == 0
    assert worst["interval"] == (0.0, pytest.approx(1 - 0.025 ** (1 / worst["n"])))


def test_power_falls_with_the_correlation_and_with_imprecision():
    sharp, blunt = power((0.4, 0.5), 0.2), power((0.0, 0.9), 0.2)
    assert sharp["95/5"] > sharp["80/20"] > sharp["70/30"] > sharp["60/40"]
    assert 0.2 < sharp["smallest_effect"] < blunt["smallest_effect"]


def test_layers_are_weighed_by_use_and_only_where_it_is_certain():
    use = {"a": 0.3, "b": 0.9, "c": -0.5, "d": 0.2}
    low = {"a": 0.1, "b": 0.5, "c": -0.9, "d": -0.1}
    high = {"a": 0.5, "b": 1.2, "c": -0.1, "d": 0.5}
    weights = layer_weights(use, low, high)
    assert weights == pytest.approx({"a": 0.25, "b": 0.75})
    assert layer_weights({"d": 0.2}, low, high) == {}


def cells(lit, low, high):
    return CellMap(np.full((4, 4), 0.5), lit, (low, high))


@pytest.mark.parametrize(
    ("map_", "participation", "auroc", "verdict"),
    [
        (cells(0.05, 0.02, 0.1), {}, 0.95, "localized"),
        (cells(1.0, 0.9, 1.0), {}, 0.95, "diffuse"),
        (cells(0.5, 0.4, 0.6), {}, 0.95, "undetermined"),
        (cells(0.3, 0.1, 0.8), {}, 0.95, "undetermined"),
        (cells(0.8, 0.3, 0.9), {}, 0.95, "undetermined"),
        (cells(0.0, 0.0, 0.1), {}, 0.62, "undetermined"),
        (cells(0.05, 0.0, 0.1), {"present=1": 0.2, "present=0": 0.1}, 0.95, "undetermined"),
        (cells(0.05, 0.0, 0.1), {"present=1": 0.2, "present=0": -0.1}, 0.95, "localized"),
        (cells(0.05, 0.0, 0.1), {"present=1": 0.2, "present=0": float("nan")}, 0.95, "localized"),
        (cells(1.0, 0.9, 1.0), {"present=1": -0.2, "present=0": -0.1}, 0.95, "undetermined"),
        (cells(1.0, 0.9, 1.0), {"present=1": -0.2, "present=0": 0.0}, 0.95, "diffuse"),
    ],
)
def test_extent_is_decided_by_both_witnesses(map_, participation, auroc, verdict):
    decided, reason = decide(map_, participation, auroc, ExtentRule())
    assert decided == verdict
    assert "cells" in reason


def test_samples_for_the_extent_are_spread_over_the_groups():
    concept = np.zeros(N)
    concept[:15] = 1
    chosen = spread_choice(concept, Y, 100, drawn_order(len(Y), 0))
    assert len(chosen) == 100
    assert concept[chosen].sum() == 15
    assert len(np.unique(chosen)) == 100
    concept[:] = np.nan
    concept[:6] = (0, 1, 0, 1, 0, 1)
    assert len(spread_choice(concept, Y, 100, drawn_order(len(Y), 0))) == 6
