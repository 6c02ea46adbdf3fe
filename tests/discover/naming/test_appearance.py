"""A finding is named by what tells, by all that tell as well, and by nothing where nothing does."""

from dataclasses import replace

import pytest

from shortcutscope.discover.naming.appearance import Appearance, appearance_of, name_of
from shortcutscope.discover.naming.ranking import PropertyScore, RankedProperties
from shortcutscope.discover.naming.words import WORDS, shown, wording_of


def score(name, auroc, effect=1.0):
    return PropertyScore(name, auroc, effect if auroc > 0.5 else -effect, 9.0, 0.45, 0.63)


def named(*scores, p=0.001) -> Appearance:
    return appearance_of(RankedProperties(tuple(sorted(scores, key=lambda s: -s.strength)), p, 50, 60))


def words(appearance):
    return [name.word for name in appearance.names]


def test_the_best_is_the_name():
    assert str(named(score("mean grey", 0.02)).names[0]) == "darker: mean grey 0.45 against 0.63"
    assert words(named(score("mean grey", 0.98), score("border", 0.8))) == ["brighter"]


def test_those_that_tell_as_well_are_named_too():
    tied = named(
        score("noise", 0.99, 3), score("border", 0.97, 2), score("corners", 0.03, 1), score("blocks", 0.7)
    )
    assert words(tied) == ["noisier", "more border", "darker corners"]


def test_tone_comes_before_what_follows_from_it():
    assert words(named(score("mean grey", 0.02, 3), score("border", 0.99, 6))) == ["darker", "more border"]
    assert words(named(score("mean grey", 0.04, 1), score("border", 0.99, 6)))[0] == "more border"


def test_one_of_a_family_speaks():
    assert words(named(score("noise", 0.01), score("sharpness", 0.01))) == ["blurred"]
    assert words(named(score("noise", 0.99), score("sharpness", 0.99), score("evenness", 0.9))) == ["noisier"]
    assert words(named(score("noise", 0.99), score("sharpness", 0.99), score("evenness", 0.5))) == ["sharper"]
    assert words(named(score("saturation", 0.01), score("warmth", 0.02))) == ["less colour"]
    assert words(named(score("saturation", 0.99), score("warmth", 0.98))) == ["warmer colours"]


@pytest.mark.parametrize(("best", "p"), [(0.9, 0.2), (0.6, 0.001)])
def test_nothing_is_named_where_nothing_tells(best, p):
    appearance = named(score("noise", best), score("black share", 0.99), p=p)
    assert appearance.names == ()
    assert "nearest is noise" in appearance.why


def test_what_is_confined_to_a_part_is_not_named():
    ranking = RankedProperties((score("noise", 0.99),), 0.001, 50, 60)
    localized = appearance_of(ranking, localized=True)
    assert localized.names == ()
    assert "see the pictures" in localized.why
    assert "few" not in appearance_of(replace(ranking, scores=(), p=None)).why


def test_every_property_has_words_in_both_directions():
    for name, one in WORDS.items():
        assert one.more
        assert one.less != one.more, name
        assert str(name_of(score(name, 0.9))).startswith(f"{one.more}: ")


def test_a_level_of_words_is_a_share():
    assert str(name_of(PropertyScore("file_format=JPEG", 0.9, 1, 5, 0.72, 0.1))) == (
        "file format JPEG: share 72 % against 10 %"
    )
    assert wording_of("file_codec=none").form == "share"
    assert shown(0.004, "share") == "0.4 %"
