"""Texts name what they tell from others of its label, and nothing where none or many do."""

import numpy as np
import pytest

from shortcutscope.discover.naming.ranking import rank_properties
from shortcutscope.discover.naming.texts import looks_of, text_name_of

N = 200
LABELS, CARRIES = np.arange(N) % 2, (np.arange(N) // 2 % 2).astype(float)


def named(**shift):
    """The name where carriers are nearer to some texts by so many deviations."""
    rng = np.random.default_rng(3)
    nearness = {text: rng.normal(size=N) for text in ("ruler", "hair", "noise", "blur", "text")}
    for text, by in shift.items():
        nearness[text] += by * CARRIES
    return text_name_of(rank_properties(nearness, CARRIES, LABELS, np.arange(N)))


def test_the_text_that_carriers_are_nearer_to_names_them():
    name = named(ruler=2.0)
    assert [score.name for score in name.names] == ["ruler"]
    assert name.margin > 0.3
    assert name.to_dict()["texts"][0]["text"] == "ruler"
    assert looks_of({"names": [], "text": name.to_dict()}) == "like “ruler”"


def test_two_that_tell_as_well_are_both_said():
    name = named(ruler=2.0, text=2.0)
    assert {score.name for score in name.names} == {"ruler", "text"}
    assert name.margin < 0.1


@pytest.mark.parametrize("shift", [{}, {"hair": -3.0}, {"noise": 0.2}])
def test_no_name_by_chance_by_distance_or_by_little(shift):
    name = named(**shift)
    assert name.names == ()
    assert "no text tells" in name.why
    assert name.margin is None


def test_many_that_tell_alike_are_no_name():
    name = named(ruler=2.0, hair=2.0, noise=2.0, blur=2.0)
    assert name.names == ()
    assert "texts tell about as well" in name.why


def test_by_chance_a_text_names_rarely():
    rng = np.random.default_rng(0)
    nearness = {str(k): rng.normal(size=N) for k in range(30)}
    names = [
        text_name_of(rank_properties(nearness, rng.permutation(CARRIES), LABELS, np.arange(N), seed=k)).names
        for k in range(20)
    ]
    assert sum(map(bool, names)) == 0
