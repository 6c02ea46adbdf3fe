"""Which places of an image are drawn."""

import torch

from shortcutscope.masks.boxed.limits import CHANCE
from shortcutscope.masks.boxed.places import COMPANIONS, places_of
from shortcutscope.retrieval.detecting.detector import Detector
from shortcutscope.retrieval.detecting.null import false_share
from shortcutscope.retrieval.detecting.templates import Film, Found


class Shown:
    """A template that finds what it is told, in units of its null."""

    def __init__(self, *places: tuple[float, tuple[float, float, float, float]]) -> None:
        self.found = [Found(score, box) for score, box in places]

    def search(self, film: Film) -> list[Found]:
        return self.found


def detector(*kinds: Shown) -> Detector:
    return Detector(kinds, None)  # type: ignore[arg-type]


FILM = Film(torch.zeros(1, 8, 8))
FAR, NEAR = (40.0, 0.0, 50.0, 10.0), (0.0, 0.0, 10.0, 10.0)


def test_nothing_is_drawn_that_images_without_it_show_as_often() -> None:
    low = places_of(detector(Shown((2.0, NEAR))), FILM, [1])
    assert not low.present
    assert low.false > CHANCE
    assert places_of(detector(Shown((5.0, NEAR))), FILM, [1]).present
    assert not places_of(detector(Shown((5.0, NEAR))), FILM, [1], limit=6.0).present
    # With more kinds chance comes higher.
    several = [Shown((3.2, NEAR)), *(Shown((-1.0, FAR)) for _ in range(4))]
    assert places_of(detector(several[0]), FILM, [1]).present
    assert not places_of(detector(*several), FILM, [1] * 5).present


def test_a_further_kind_needs_less_and_a_further_one_of_a_kind_as_much() -> None:
    companion = 2.4
    assert false_share(companion, 1) < COMPANIONS
    both = places_of(detector(Shown((6.0, NEAR)), Shown((companion, FAR))), FILM, [1, 1])
    assert [place.kind for place in both.drawn] == [0, 1]
    assert both.drawn[0].sure > both.drawn[1].sure
    one_kind = detector(Shown((6.0, NEAR), (companion, FAR)))
    assert len(places_of(one_kind, FILM, [1]).drawn) == 1
    assert len(places_of(one_kind, FILM, [2]).drawn) == 2
    assert len(places_of(detector(Shown((6.0, NEAR), (5.0, FAR))), FILM, [1]).drawn) == 2


def test_no_place_is_drawn_twice() -> None:
    moved = (1.0, 1.0, 11.0, 11.0)
    twice = places_of(detector(Shown((6.0, NEAR)), Shown((5.0, moved))), FILM, [1, 1])
    assert [place.box for place in twice.drawn] == [NEAR]
