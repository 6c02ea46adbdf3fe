"""How class scores are read out of what a model returns: which part, which output, through which link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.heads.names import positions_of
from shortcutscope.models.outputs import find_scores
from shortcutscope.types import JSON, Record

Task = Literal["auto", "multiclass", "binary", "multilabel"]
KnownTask = Literal["multiclass", "binary", "multilabel"]
Link = Literal["auto", "identity", "sigmoid", "softmax"]

TASKS: tuple[str, ...] = ("auto", "multiclass", "binary", "multilabel")
LINKS: tuple[str, ...] = ("auto", "identity", "sigmoid", "softmax")


@dataclass(frozen=True)
class Head:
    """Which scores of a model are meant, and how they become logits.

    Attributes
    ----------
    part
        Name or position of the scores in a tuple, list, mapping or dataclass; None where they are found by
        themselves.
    label
        The one output that a label column of 0 and 1 belongs to, by position or name; None where labels are
        the positions of the outputs, or there is one output.
    names
        Of the outputs, in their order.
    link
        What the model's last operation makes of its logits, to be inverted: ``"sigmoid"``, ``"softmax"``;
        ``"identity"`` for logits; ``"auto"`` is found out on the first images.
    task
        ``"multilabel"`` where every output is a yes or no of its own, ``"multiclass"`` where they exclude
        each other. With `label` the scores that are read are binary: that output's logit, or of outputs that
        exclude each other its logit less the largest other one.
    outputs
        How many there are; None before that was seen.
    labels
        Several labels a sample: label to its output, by position or name, None for the output of the label's
        own name (case, blanks and underscores do not count). What is read are all outputs then.

    Examples
    --------
    >>> import shortcutscope as ss
    >>> head = ss.Head(label="Pneumonia", names=("Effusion", "Pneumonia"), task="multilabel", outputs=2)
    >>> head.index, head.label_name, head.read_task, head.place("Effusion", "label")
    (1, 'Pneumonia', 'binary', 0)
    >>> ss.Head.from_json(head.to_json()).same_as(head)
    True
    """

    part: str | int | None = None
    label: str | int | None = None
    names: tuple[str, ...] | None = None
    link: Link = "auto"
    task: Task = "auto"
    outputs: int | None = None
    labels: Mapping[str, str | int | None] | None = None

    def __post_init__(self) -> None:
        if self.names is not None:
            object.__setattr__(self, "names", tuple(map(str, self.names)))
        if self.labels is not None:
            object.__setattr__(self, "labels", dict(self.labels))
            if self.label is not None:
                raise InputError("label= ties one label to an output, labels= several; leave one of them out")
        for name, value, allowed in (("task", self.task, TASKS), ("link", self.link, LINKS)):
            if value not in allowed:
                raise InputError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")

    @property
    def settled(self) -> bool:
        """Whether it was compared with the model."""
        return self.outputs is not None

    @property
    def index(self) -> int | None:
        """Position of `label` among the outputs.

        Raises
        ------
        InputError
            A name that is not known, or a position that there is not.
        """
        return None if self.label is None else self.place(self.label, "label_output")

    def place(self, output: str | int, what: str) -> int:
        """Position of an output.

        Parameters
        ----------
        output
            Its position or name.
        what
            Who asks, for the error.

        Raises
        ------
        InputError
            A name that is not known, or a position that there is not.
        """
        if isinstance(output, int):
            if output < 0 or (self.outputs is not None and output >= self.outputs):
                last = "" if self.outputs is None else f" (0 to {self.outputs - 1})"
                raise InputError(f"{what}={output} is no position of an output{last}")
            return output
        matches = positions_of(output, self.names or ())
        if len(matches) == 1:
            return matches[0]
        listing = ", ".join(self.names or ()) or "none: give its position, or output_names= (--output-names)"
        raise InputError(
            f"{what}={output!r} names {len(matches)} of the model's outputs; known are {listing}"
        )

    def of_label(self, name: str) -> Head:
        """The head of one of several labels that are tied: what an audit of that one alone reads."""
        assert self.labels is not None
        return replace(self, label=self.labels[name], labels=None)

    @property
    def label_name(self) -> str | int | None:
        """Name of the label's output, its position where it has none."""
        index = self.index
        return index if index is None or not self.names else self.names[index]

    @property
    def read_task(self) -> Task:
        """The task of the scores that are read: binary for one output of several."""
        return self.task if self.label is None else "binary"

    def read(self, output: object) -> Tensor:
        """Logits (N, K) in what the model returned; (N, 1) where the label belongs to one output.

        Raises
        ------
        InputError, ModelError
            As `find_scores`; a label's output that there is not.
        """
        logits = inverted(find_scores(output, self.part), self.link)
        index = replace(self, outputs=int(logits.shape[1])).index
        if index is None:
            return logits
        if self.task == "multiclass" and logits.shape[1] > 1:
            return against_others(logits, index).unsqueeze(1)
        return logits[:, index : index + 1]

    def __call__(self, module: nn.Module, inputs: object, output: object) -> Tensor:
        """The same as a forward hook of the model."""
        return self.read(output)

    @property
    def changes(self) -> bool:
        """Whether what is read is more than the scores that are found by themselves."""
        return self.part is not None or self.label is not None or self.link in ("sigmoid", "softmax")

    def to_json(self) -> Record:
        """As JSON values; `from_json` undoes it."""
        names = None if self.names is None else list(self.names)
        record: Record = {
            "part": self.part,
            "label": self.label,
            "names": names,
            "link": self.link,
            "task": self.task,
            "outputs": self.outputs,
        }
        return record if self.labels is None else {**record, "labels": dict(self.labels)}

    @classmethod
    def from_json(cls, record: JSON | str | int | None) -> Self:
        """From run.json or a scan's manifest; what an older one holds is the part's name or position."""
        if isinstance(record, Mapping):
            return cls(**record)
        return cls(part=record, link="identity")

    def same_as(self, other: Head) -> bool:
        """Whether both read the same scores."""
        mine, theirs = (
            (h.part, h.index, h.link, h.read_task if h.label is None else h.task) for h in (self, other)
        )
        return mine == theirs

    def __str__(self) -> str:
        parts = []
        if self.part is not None:
            parts.append(f"part {self.part!r} of what the model returns")
        if self.label is not None:
            name = f" ({self.names[self.index or 0]})" if self.names else ""
            of = f" of {self.outputs}" if self.outputs else ""
            parts.append(f"output {self.index}{name}{of}")
        if self.link in ("sigmoid", "softmax"):
            parts.append(f"{self.link} inverted")
        return ", ".join(parts) or "all outputs"


#: Which scores a stage reads: a part of what the model returns, or a head, which says more.
Output = str | int | Head | None


def as_head(
    output: Output = None,
    *,
    label: str | int | None = None,
    names: Sequence[str] | None = None,
    task: str = "auto",
) -> Head:
    """The head that options ask for.

    Parameters
    ----------
    output
        A head, or the part of one.
    label, names, task
        What else is said of it.

    Raises
    ------
    InputError
        Something that the head says differently.
    """
    head = output if isinstance(output, Head) else Head(part=output)
    values: Record = {"label": label, "names": None if names is None else tuple(names), "task": task}
    for name, value in values.items():
        old = getattr(head, name)
        if value in (None, "auto"):
            continue
        if old not in (None, "auto", value) and not (name == "task" and value == head.read_task):
            raise InputError(f"{name}={value!r} is given, but the head says {name}={old!r}; leave one out")
        if old in (None, "auto"):
            head = replace(head, **{name: value})
    return head


def require_logits(output: Output) -> None:
    """Refuse probabilities, where what is propagated must be a logit.

    Raises
    ------
    ModelError
        Says what to do.
    """
    if isinstance(output, Head) and output.link in ("sigmoid", "softmax"):
        raise ModelError(
            f"the model returns probabilities (a {output.link} inside), through which relevance cannot be "
            "propagated; remove the last layer, so that it returns logits, or use a gradient"
        )


def inverted(scores: Tensor, link: str) -> Tensor:
    """Logits of scores (N, K) behind a link, differentiable, at least float32 where one is inverted.

    Of a softmax they are known up to a constant a sample; they are given with mean zero, so that their
    gradient is that of the logits themselves and does not vanish where the network is sure.
    """
    if link not in ("sigmoid", "softmax"):
        return scores
    precision = torch.finfo(scores.dtype)
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    smallest = torch.finfo(wide.dtype).tiny
    if link == "softmax":
        logs = wide.clamp(min=smallest).log()
        return logs - logs.mean(dim=1, keepdim=True)
    inside = wide.clamp(smallest, 1 - precision.eps / 2)
    return inside.log() - torch.log1p(-inside)


def against_others(logits: Tensor, index: int) -> Tensor:
    """One class's logit less the largest other one, (N,)."""
    others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
    return logits[:, index] - others.amax(dim=1)


def own_names(model: nn.Module) -> tuple[tuple[str, ...] | None, bool]:
    """What a model itself knows of its outputs.

    Returns
    -------
    names
        Of Hugging Face's ``config.id2label``, ``pathologies``, ``class_names`` or ``classes``; None where
        there are none but placeholders.
    several
        Whether it says that several of them can be true at once.
    """
    config = getattr(model, "config", None)
    several = getattr(config, "problem_type", None) == "multi_label_classification"
    labels = getattr(config, "id2label", None)
    if isinstance(labels, Mapping) and labels:
        by_index = {int(k): str(v) for k, v in labels.items() if str(k).isdigit()}
        if sorted(by_index) == list(range(len(by_index))) and not all(
            v == f"LABEL_{k}" for k, v in by_index.items()
        ):
            return tuple(by_index[k] for k in range(len(by_index))), several
    for attribute in ("pathologies", "class_names", "classes"):
        value = getattr(model, attribute, None)
        if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
            return tuple(value), several or attribute == "pathologies"
    return None, several
