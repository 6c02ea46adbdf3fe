"""What the literature on distillation leaves open, and which layers it is done at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from torch import Tensor, nn

from shortcutscope.debias.distillation.matching import FORMS, Form
from shortcutscope.debias.distillation.teacher_start import TEACHER_STARTS, TeacherStart
from shortcutscope.debias.training.settings import Start
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer, find_layers

Labels = Literal["none", "clean", "plain", "group-balanced"]
LABELS: tuple[Labels, ...] = ("none", "clean", "plain", "group-balanced")


class DistillationChoices(TypedDict, total=False):
    """Single choices of a `Distillation`."""

    form: Form | None
    labels: Labels
    label_weight: float
    logit_weight: float
    layer_weight: float
    temperature: float
    reverse: bool
    layers: str | Sequence[str] | Mapping[str, float] | None
    along: float
    directions: int
    clean_share: float
    start: Start | Literal["teacher"] | None
    teacher_start: TeacherStart
    cache: bool | None


@dataclass(frozen=True)
class Distillation:
    """The choices that the literature leaves open.

    Attributes
    ----------
    form
        What is compared at intermediate layers: ``"probes"``, ``"features"``, ``"relevant"`` (features in the
        directions that the teacher's relevance uses), ``"attention"``, ``"cka"``; None distils the logits
        alone.
    labels
        Whose cross-entropy is added: ``"none"``; ``"clean"``, that of the clean samples, so that the biased
        labels never reach the student; ``"plain"``, of all samples; ``"group-balanced"``, of all with the
        same weight on every group (class, concept).
    clean_share
        Share of the samples of a step that are drawn from the clean subset; 0 leaves it to the teacher.
    start
        Where the student begins, see `DebiasProblem`; ``"teacher"`` is a copy of it, where the student is of
        its architecture. None as the problem says.
    teacher_start
        Where a teacher that is trained here begins: ``"model"``, the biased network; ``"fresh"``, as a
        student begins; ``"auto"``, the biased network, unless no training sample is known to go against the
        shortcut: then what `choose_start` finds by cross-validation on the clean samples.
    label_weight, logit_weight, layer_weight
        a, b and c.
    temperature
        T.
    reverse
        Take KL(p_S || p_T) instead of KL(p_T || p_S).
    layers
        ``"audit"``, by what the audit says of the biased network; ``"uniform"`` over all blocks;
        ``"last"``; names; or weights by name.
    along
        Of ``form="features"`` with directions of the shortcut: weight of the difference along them. Of
        ``form="relevant"``: 0 takes the shortcut's own directions out of those that are compared, 1 does not.
    directions
        Of ``form="relevant"``: how many are compared at each layer.
    cache
        Keep the teacher's outputs for all samples; None does where no augmentation changes the images and
        they fit.
    """

    form: Form | None = "features"
    labels: Labels = "none"
    label_weight: float = 1.0
    logit_weight: float = 1.0
    layer_weight: float = 1.0
    temperature: float = 4.0
    reverse: bool = False
    layers: Literal["audit", "uniform", "last"] | Sequence[str] | Mapping[str, float] = "audit"
    along: float = 1.0
    directions: int = 8
    clean_share: float = 0.0
    start: Start | Literal["teacher"] | None = None
    teacher_start: TeacherStart = "model"
    cache: bool | None = None

    def but(self, **changes: object) -> Distillation:
        """The same, but for these."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise `InputError` for an option out of range."""
        if self.form is not None and self.form not in FORMS:
            raise InputError(f"form={self.form!r}; allowed are {', '.join(FORMS)} and None")
        if self.directions < 1:
            raise InputError(f"directions={self.directions}; it must be 1 or more")
        if self.form == "relevant" and self.along not in (0, 1):
            raise InputError(f"along={self.along}; with form='relevant' it is 0 or 1")
        if self.labels not in LABELS:
            raise InputError(f"labels={self.labels!r}; allowed are {', '.join(LABELS)}")
        if not 0 <= self.clean_share < 1 or (self.labels == "clean" and not self.clean_share):
            raise InputError(
                f"clean_share={self.clean_share} must lie in [0, 1), above 0 for the labels of clean samples"
            )
        if self.start not in (None, "fresh", "model", "teacher"):
            raise InputError(f"start={self.start!r}; allowed are 'fresh', 'model' and 'teacher'")
        if self.teacher_start not in TEACHER_STARTS:
            raise InputError(
                f"teacher_start={self.teacher_start!r}; allowed are {', '.join(map(repr, TEACHER_STARTS))}"
            )
        weights = (self.label_weight, self.logit_weight, self.layer_weight)
        if not all(weight >= 0 for weight in weights) or not self.temperature > 0:
            raise InputError(
                f"weights {weights} must be 0 or more, the temperature {self.temperature} above 0"
            )
        terms = (
            self.labels != "none",
            self.logit_weight > 0,
            self.form is not None and self.layer_weight > 0,
        )
        if not any(terms):
            raise InputError("nothing is left to learn from: no labels, no logits and no layers")


def select_layers(
    layers: Sequence[Layer], options: Distillation, use: Mapping[str, float] | None
) -> tuple[dict[str, float], str]:
    """Weights of a student's layers, which sum to 1, and why they are these.

    Raises
    ------
    InputError
        For a layer that the student does not have, or ``layers="audit"`` without an audit.
    """
    if options.form is None:
        return {}, "no intermediate layer"
    names = [layer.name for layer in layers]
    choice = options.layers
    if choice == "uniform":
        return dict.fromkeys(names, 1 / len(names)), "all blocks alike"
    if choice == "last":
        return {names[-1]: 1.0}, "the last block"
    if choice == "audit":
        if not use:
            raise InputError(
                "layers='audit' needs the layers that an audit chose, and there are none: give audit=, or "
                "layers='uniform', 'last', names or weights"
            )
        missing = [name for name in use if name not in names]
        if missing:
            raise InputError(
                f"the audit chose layer {missing[0]!r}, which the student lacks ({', '.join(names)}); "
                "give layers= for this student"
            )
        return _normalised(use), "by use, from the audit"
    if isinstance(choice, str):
        raise InputError(
            f"layers={choice!r}; allowed are 'audit', 'uniform', 'last', names or weights by name"
        )
    weights = dict(choice) if isinstance(choice, Mapping) else dict.fromkeys(choice, 1.0)
    unknown = [name for name in weights if name not in names]
    if unknown:
        raise InputError(f"the student has no layer {unknown[0]!r}; it has {', '.join(names)}")
    return _normalised(weights), "as given"


def student_layers(model: nn.Module, example: Tensor, options: Distillation) -> tuple[Layer, ...]:
    """The layers of a network that distillation may compare: its blocks, and whatever is named."""
    choice = options.layers
    candidates = list(find_layers(model, example, "blocks"))
    if not isinstance(choice, str):
        extra = [name for name in choice if name not in {layer.name for layer in candidates}]
        candidates += find_layers(model, example, extra) if extra else []
    return tuple(candidates)


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    if not total > 0:
        raise InputError(f"layer weights must not all be 0: {dict(weights)}")
    return {name: weight / total for name, weight in weights.items()}
