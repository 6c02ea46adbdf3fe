"""Which output of a model a column of labels belongs to; never by position where that is a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from shortcutscope.errors import InputError
from shortcutscope.models.heads.head import Head
from shortcutscope.models.heads.names import positions_of
from shortcutscope.types import Array

#: Share of the outputs that labels must name, where the table has no class names, to be their positions.
NAMED = 0.5


def tie(
    head: Head,
    link: str,
    *,
    several: bool,
    labels: Sequence[int] | Array | None,
    classes: Sequence[str] | None,
) -> tuple[Head, tuple[str, ...]]:
    """Settle task and output of the labels.

    Parameters
    ----------
    head
        With the number of outputs.
    link
        Of the scores; a sigmoid over several outputs says that each is a yes or no of its own.
    several
        Whether the model itself says so.
    labels, classes
        Of all samples, and their names; None where labels are not looked at.

    Returns
    -------
    head
        Its label as a position.
    assumed
        In words.

    Raises
    ------
    InputError
        Labels of which nobody can know the output.
    """
    n = head.outputs or 1
    if head.labels is not None:
        return _tied_by_name(head, n, link)
    if n == 1:
        if head.index not in (None, 0):
            raise InputError(f"label_output={head.label!r}, but the model has one output; leave it out")
        return replace(head, label=None), ()
    apart = several or link == "sigmoid"
    if head.label is not None:
        return _tied(head, n, apart, link, labels), ()
    if labels is None:
        return head, ()
    present = sorted({int(label) for label in np.unique(np.asarray(labels))})
    return _tied_by_labels(head, n, apart, present, list(classes or ()))


def _tied_by_name(head: Head, n: int, link: str) -> tuple[Head, tuple[str, ...]]:
    """As `tie`, of several labels a sample."""
    labels = head.labels or {}
    if n == 1 or link == "softmax" or head.task in ("multiclass", "binary"):
        what = "one output" if n == 1 else f"{n} outputs that exclude each other"
        raise InputError(
            f"the samples have {len(labels)} labels ({', '.join(labels)}), and the model has {what}: audit "
            f"one label, label={next(iter(labels))!r} (--label), or a model with an output for each"
        )
    places = {name: _place_of(head, name, output) for name, output in labels.items()}
    untied = [name for name, place in places.items() if place is None]
    if untied:
        known = ", ".join(f"{k} {name}" for k, name in enumerate(head.names)) if head.names else "no names"
        raise InputError(
            f"no output bears the name of {len(untied)} of the labels ({', '.join(untied)}); the model's {n} "
            f"outputs have {known}. Say which outputs they are, head=Head(labels={{{untied[0]!r}: ...}}) "
            f"(--outputs {untied[0]!r}=..., by name or position), or name all outputs in their order "
            "(--output-names), or leave these labels out"
        )
    tied = {name: int(place) for name, place in places.items() if place is not None}
    twice = [name for name, place in tied.items() if list(tied.values()).count(place) > 1]
    if twice:
        raise InputError(f"the labels {' and '.join(twice)} are tied to one output; give each its own")
    assumed = [f"each label is compared with its output: {_pairs(tied, head)}"]
    others = [str(head.names[k] or k) if head.names else str(k) for k in range(n) if k not in tied.values()]
    if others:
        assumed.append(f"{len(others)} outputs have no label here and are not audited: {', '.join(others)}")
    if link == "identity" and head.task == "auto":
        assumed.append(
            "each output is read as the logit of a yes or no of its own, since there are several labels"
        )
    return replace(head, labels=tied, task="multilabel"), tuple(assumed)


def _place_of(head: Head, name: str, output: str | int | None) -> int | None:
    """The output of a label; None where nobody says, and none bears its name."""
    if output is not None:
        return head.place(output, f"the output of label {name!r}")
    matches = positions_of(name, head.names or ())
    return matches[0] if len(matches) == 1 else None


def _pairs(tied: Mapping[str, int], head: Head) -> str:
    return ", ".join(
        f"{name} with {place}" + (f" ({head.names[place]})" if head.names and head.names[place] else "")
        for name, place in tied.items()
    )


def _tied_by_labels(
    head: Head, n: int, apart: bool, present: list[int], names: list[str]
) -> tuple[Head, tuple[str, ...]]:
    """As `tie`, of several outputs of which none is named, by the labels that occur and their names."""
    outputs = _outputs(head, n)
    matches_outputs = len(names) == n > 2
    if head.task == "multilabel" or (apart and head.task == "auto"):
        if not matches_outputs and (present != list(range(n)) or n == 2):
            raise InputError(
                f"the model has {outputs}, each a yes or no of its own, and the labels are "
                f"{_listed(present)}: say which output the label is{_how(head, n)}"
                + (
                    ""
                    if head.task == "multilabel" or n > 2
                    else "; or, if the two exclude each other, task='multiclass' (--task multiclass)"
                )
            )
        return head, ()
    _require_same_order(head, names)
    if n == 2 or matches_outputs or present[-1] >= n or present == list(range(n)):
        return head, ()  # labels beyond the outputs are refused where they are compared with them
    if names or present[-1] < 2 or len(present) <= NAMED * n:
        what = (
            f"the table has {len(names)} classes ({', '.join(map(str, names[:4]))})"
            if names
            else (f"the labels are {_listed(present)}")
        )
        raise InputError(
            f"the model has {outputs} and {what}: say which output the label is{_how(head, n)}. If the "
            f"labels are positions of the {n} outputs, and some have no sample here, open the table with the "
            f"names of all {n} classes in the order of the outputs, classes=[...] (--classes); if the model "
            "was made for another task, load the one that was trained on these labels"
        )
    return head, (
        f"labels are read as positions of the {n} outputs, of which {len(present)} have samples here",
    )


def _tied(head: Head, n: int, apart: bool, link: str, labels: object) -> Head:
    index = head.index
    present = set() if labels is None else {int(label) for label in np.unique(np.asarray(labels))}
    if not present <= {0, 1}:
        raise InputError(
            f"label_output={head.label!r} ties a label of 0 and 1 to one output, but the labels are "
            f"{_listed(sorted(present))}; give a column of 0 and 1, or leave it out"
        )
    task = head.task if head.task in ("multiclass", "multilabel") else None
    if task is None and (apart or link == "softmax" or n == 2):
        task = "multilabel" if apart else "multiclass"
    if task is None:
        raise InputError(
            f"the model has {_outputs(head, n)}: say whether each is a yes or no of its own, "
            "task='multilabel' (--task multilabel), or they exclude each other, task='multiclass' "
            "(--task multiclass); the score of output "
            f"{index} is its own logit then, or its lead over the others"
        )
    return replace(head, label=index, task=task)


def _outputs(head: Head, n: int) -> str:
    if head.names is None:
        return f"{n} outputs"
    names = ", ".join(head.names[:6]) + (", ..." if len(head.names) > 6 else "")
    return f"{n} outputs ({names})"


def _how(head: Head, n: int) -> str:
    some = repr(next((name for name in head.names if name), 1)) if head.names else str(n - 1)
    return f", label_output={some} (--label-output {some}), by position or name"


def _listed(present: Sequence[int]) -> str:
    texts = [str(label) for label in present[:6]] + (["..."] if len(present) > 6 else [])
    return " and ".join(texts) if len(texts) == 2 else ", ".join(texts)


def _require_same_order(head: Head, classes: Sequence[str]) -> None:
    """Refuse a table whose classes bear the outputs' names in another order."""
    outputs = [name.casefold() for name in head.names or ()]
    table = [str(name).casefold() for name in classes]
    if outputs and outputs != table and sorted(outputs) == sorted(table):
        raise InputError(
            f"the model's outputs are called {', '.join(head.names or ())}, the table's classes "
            f"{', '.join(map(str, classes))}: the same names in another order; open the table with classes= "
            "(--classes) in the order of the outputs"
        )
