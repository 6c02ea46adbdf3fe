"""Proposals are numbered in their order, and what names them follows."""

from dataclasses import replace

import numpy as np

from shortcutscope.discover.candidates import ShortcutCandidate
from shortcutscope.discover.proposal import Proposal, numbered
from shortcutscope.probes.concept import Concept

VALUES = np.array([0.0, 1.0, 1.0])
VIEW = "filters: 24 components, of samples without discovered 1"


def proposal(name: str, dropped: str = "") -> Proposal:
    candidate = ShortcutCandidate("filters: x", 1, VALUES, VALUES > 0, 4, 0.8, 1, 9, 0.8, {0: 0.1}, 0.4)
    concept = None if dropped else Concept(name, VALUES, "discovered", list("abc"), f"found by {VIEW}")
    return Proposal(name, candidate, (VIEW,), concept, dropped)


def test_numbers_are_consecutive_in_the_order_given_and_twins_have_none():
    order = [proposal("discovered 13"), proposal("", "names the same samples as discovered 1")]
    assert numbered([*order, proposal("discovered 1")]) == {
        "discovered 13": "discovered 1",
        "discovered 1": "discovered 2",
    }
    assert numbered(order, 4) == {"discovered 13": "discovered 4"}


def test_all_that_names_a_proposal_follows_at_once():
    names = {"discovered 13": "discovered 1", "discovered 1": "discovered 2"}
    one = proposal("discovered 13").renamed(names)
    assert one.concept is not None
    assert (one.name, one.concept.name) == ("discovered 1", "discovered 1")
    assert one.views == ("filters: 24 components, of samples without discovered 2",)
    assert one.concept.description.endswith("of samples without discovered 2")
    assert one.families == ("filters",)
    why = "is explained by discovered 1, discovered 13 and discovered 130"
    dropped = replace(proposal("discovered 2", why), views=("relevance: a",)).renamed(names)
    assert dropped.dropped == "is explained by discovered 2, discovered 1 and discovered 130"
    assert dropped.name == "discovered 2"  # one that the names do not know keeps its own
