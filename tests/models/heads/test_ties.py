"""Labels are tied to outputs by name or by what is said, and never by position."""

from __future__ import annotations

import pytest

from shortcutscope.errors import InputError
from shortcutscope.models.heads.head import Head
from shortcutscope.models.heads.ties import tie

#: As torchxrayvision has them: outputs that were never trained bear no name.
NAMES = ("Atelectasis", "Pleural_Thickening", "", "Mass", "")


def tied(labels, names=NAMES, link="identity", **more):
    head = Head(labels=labels, names=names, outputs=len(names), **more)
    return tie(head, link, several=False, labels=None, classes=None)


def test_by_name_however_it_is_written():
    head, assumed = tied({"pleural thickening": None, "MASS": None})
    assert head.labels == {"pleural thickening": 1, "MASS": 3}
    assert head.task == "multilabel"
    assert any("MASS with 3 (Mass)" in text for text in assumed)
    assert any("3 outputs have no label" in text for text in assumed)
    assert head.of_label("MASS").index == 3
    assert Head.from_json(head.to_json()) == head


def test_by_what_is_said():
    head, _ = tied({"nodule": "mass", "edema": 0})
    assert head.labels == {"nodule": 3, "edema": 0}


@pytest.mark.parametrize(
    ("labels", "more", "match"),
    [
        ({"edema": None, "mass": None}, {}, r"no output bears the name of 1 of the labels \(edema\).*0 Atel"),
        ({"a": None, "b": None}, {"names": None, "outputs": 2}, "no names"),
        ({"a": 3, "mass": None}, {}, "tied to one output"),
        ({"a": 7}, {}, "no position of an output"),
        ({"a": "masss"}, {}, "names 0 of the model's outputs"),
        ({"mass": None}, {"link": "softmax"}, "exclude each other"),
        ({"mass": None}, {"names": ("mass",)}, "one output"),
        ({"x": None}, {"names": ("X", "x ")}, "no output bears"),
    ],
)
def test_refused_with_both_lists(labels, more, match):
    names = more.pop("names", NAMES)
    if names is None:
        head = Head(labels=labels, outputs=more["outputs"])
        with pytest.raises(InputError, match=match):
            tie(head, "identity", several=False, labels=None, classes=None)
        return
    with pytest.raises(InputError, match=match):
        tied(labels, names, **more)


def test_one_label_and_several_are_not_both_said():
    with pytest.raises(InputError, match="leave one of them out"):
        Head(label=1, labels={"a": 1})
