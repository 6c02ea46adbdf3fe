from types import SimpleNamespace

import pytest

from shortcutscope.errors import InputError
from shortcutscope.retrieval.detecting.choice import kept_kinds

A, B, C, D = ((row, (0.0, 0.0, 15.0, 11.0)) for row in range(4))


@pytest.fixture
def mined():
    return SimpleNamespace(kinds=([A, B], [C]), offered=([A, B], [C], [D]), boxed=False)


@pytest.mark.parametrize(
    ("kinds", "crops", "kept", "dropped"),
    [([0], [], [[A, B]], [[C]]), ([], [1, 2], [[B], [C]], [[A]]), ([1], [0], [[A], [C]], [[B]])],
)
def test_kinds_and_single_crops_are_kept_or_dropped(mined, kinds, crops, kept, dropped):
    assert kept_kinds(mined, kinds, crops) == kept
    assert kept_kinds(mined, kinds, crops, drop=True) == dropped


def test_further_kinds_are_searched_for_only_when_kept(mined):
    assert kept_kinds(mined, [0, 2], []) == [[A, B], [D]]
    assert kept_kinds(mined, [0], [], drop=True) == [[C]]


def test_what_cannot_be_chosen(mined):
    with pytest.raises(InputError, match=r"keep\(\[3\]\); allowed are some of \[0, 1, 2\]"):
        kept_kinds(mined, [3], [])
    with pytest.raises(InputError, match=r"drop\(\[3\]\); allowed are some of \[0, 1, 2\]"):
        kept_kinds(mined, [], [3], drop=True)
    with pytest.raises(InputError, match="neither kinds nor crops"):
        kept_kinds(mined, [], [])
    with pytest.raises(InputError, match="leaves no crop"):
        kept_kinds(mined, [0, 1], [], drop=True)
    for nothing in (None, SimpleNamespace(kinds=([A],), boxed=True)):
        with pytest.raises(InputError, match="there are none: box a few"):
            kept_kinds(nothing, [0], [])
