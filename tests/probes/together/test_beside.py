"""The rules by which one of several used concepts stands, is explained, or cannot be told apart."""

import pytest

from shortcutscope.probes.together.beside import HeldFixed, UsedConcepts, describe
from shortcutscope.probes.together.held_fixed import PartialEffect


def held(others, effect, error=0.02, differ=None, unknown=()):
    names = tuple(others)
    counts = tuple(differ or [100] * len(names))
    return HeldFixed(names, (0.5,) * len(names), counts, tuple(unknown), PartialEffect(effect, error))


def say(alone, held_fixed, cosine=0.0, threshold=0.2):
    return UsedConcepts(alone, held_fixed, threshold, lambda a, b: cosine).statements()


NONE = float("nan")


def test_a_bystander_is_explained_by_the_cause_which_stands():
    said = say({"tag": 1.0, "room": 0.5}, {"tag": held(["room"], 1.0), "room": held(["tag"], 0.03)})
    assert (said["tag"]["statement"], said["tag"]["with"]) == ("beyond", ["room"])
    assert (said["room"]["statement"], said["room"]["with"]) == ("explained by", ["tag"])
    assert said["room"]["interval"] == pytest.approx([0.03 - 0.0392, 0.03 + 0.0392])


def test_effects_are_read_in_the_direction_that_the_concept_has_alone():
    pair = {"tag": held(["room"], -0.9), "room": held(["tag"], -0.15)}
    said = say({"tag": -1.0, "room": 0.5}, pair)
    assert said["tag"]["statement"] == "beyond"
    assert said["room"]["statement"] == "explained by"  # little is left, and points the other way
    said = say({"tag": -1.0, "room": 0.5}, {**pair, "room": held(["tag"], -0.4)})
    assert said["room"]["statement"] == "beyond"  # used, and not as it seemed


@pytest.mark.parametrize(
    ("effect", "error", "differ", "statement"),
    [
        (0.09, 0.02, 100, "explained by"),  # below half of the threshold, and surely below the threshold
        (0.11, 0.02, 100, "beyond"),
        (0.11, 0.06, 100, "cannot be told apart from"),  # neither shown to be there nor to be small
        (0.05, 0.10, 100, "cannot be told apart from"),
        (0.03, 0.02, 39, "cannot be told apart from"),  # too few samples differ
        (0.03, 0.02, 40, "explained by"),
        (NONE, NONE, 100, "cannot be told apart from"),
    ],
)
def test_each_rule_has_its_limit(effect, error, differ, statement):
    room = held(["tag"], effect, error, [differ])
    said = say({"tag": 1.0, "room": 0.5}, {"tag": held(["room"], 1.0, differ=[differ]), "room": room})
    assert said["room"]["statement"] == statement


def test_only_what_stands_explains():
    both = {"tag": held(["room"], 0.05), "room": held(["tag"], 0.05)}
    said = say({"tag": 1.0, "room": 0.9}, both)
    assert {row["statement"] for row in said.values()} == {"cannot be told apart from"}
    unused = say({"room": 0.5}, {"room": held(["tag"], 0.01)})
    assert (unused["room"]["statement"], unused["room"]["with"]) == ("cannot be told apart from", ["tag"])


def test_rivals_are_those_that_are_used():
    said = say(
        {"tag": 1.0, "room": 0.9},
        {"tag": held(["room", "coin"], 0.05, differ=[12, 300]), "room": held(["tag"], 0.05, differ=[12])},
    )
    assert said["tag"]["with"] == ["room"]
    assert (said["tag"]["n_differ"], said["tag"]["needed"]) == (12, 28)
    assert said["tag"]["held_fixed"] == ["room", "coin"]


@pytest.mark.parametrize(("alone", "needed"), [(0.5, 30), (0.3, 90)])
def test_smaller_effects_need_more_samples_that_differ(alone, needed):
    pair = {"tag": held(["room"], 0.1, 0.5, [10]), "room": held(["tag"], 0.1, 0.5, [10])}
    said = say({"tag": alone, "room": alone}, pair)
    assert said["tag"]["needed"] == needed


def test_where_enough_differ_the_standard_error_says_how_many_more():
    said = say({"tag": 1.0, "room": 0.5}, {"tag": held(["room"], 1.0), "room": held(["tag"], 0.11, 0.06)})
    # (1.96 + .84) x .06 against a distance of .11
    assert said["room"]["needed"] == 234 - 100
    gone = say({"tag": 1.0, "room": 0.5}, {"tag": held(["room"], 1.0), "room": held(["tag"], NONE, NONE)})
    assert gone["room"]["needed"] is None
    assert gone["room"]["effect"] is None
    assert describe(gone["room"]).endswith("together they determine it")


def test_two_that_stand_and_are_read_alike_are_one_thing():
    both = {"tag": held(["mark"], 0.5), "mark": held(["tag"], 0.5)}
    assert say({"tag": 1.0, "mark": 1.0}, both, 0.96)["tag"]["statement"] == "one thing with"
    assert say({"tag": 1.0, "mark": 1.0}, both, 0.90)["tag"]["statement"] == "beyond"


def test_a_threshold_that_is_doubled_doubles_the_limits():
    pair = {"tag": held(["room"], 1.0), "room": held(["tag"], 0.15)}
    assert say({"tag": 1.0, "room": 0.5}, pair)["room"]["statement"] == "beyond"
    assert say({"tag": 1.0, "room": 0.5}, pair, threshold=0.4)["room"]["statement"] == "explained by"


def test_what_goes_with_none_has_no_statement_and_what_could_not_be_held_is_named():
    assert say({"tag": 1.0}, {}) == {}
    said = say({"tag": 1.0}, {"tag": held([], NONE, NONE, unknown=["room"])})
    assert said["tag"]["statement"] is None
    assert said["tag"]["not_held_fixed"] == ["room"]
    assert describe(said["tag"]) == ""
    assert describe({}) == ""


def test_statements_are_read_as_sentences():
    beside = {"statement": "explained by", "with": [*"abcdef"], "effect": 0.031, "interval": [-0.01, 0.07]}
    said = describe(beside)
    assert said.startswith(
        "explained by a, b, c and d and 2 more: with them held fixed, taking it out moves "
    )
    assert said.endswith("the logit by 0.03 (-0.01 to 0.07)")
    assert describe({**beside, "statement": "beyond", "with": ["a"]}).startswith("used beyond a: with it ")
