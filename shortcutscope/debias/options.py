"""What may be said of a retraining: what is unlearnt, how students are trained, and options of recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, get_type_hints

from torch import nn

from shortcutscope.allowed import check_types
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.record import AuditRecord
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.adversarial import Method
from shortcutscope.debias.baselines.disagreement import By
from shortcutscope.debias.clarc.clarc import Classifier, Refit, Trained
from shortcutscope.debias.clarc.erasure import On
from shortcutscope.debias.clarc.rrr import BatchNorm, Slope
from shortcutscope.debias.distillation.matching import Form
from shortcutscope.debias.distillation.options import Labels
from shortcutscope.debias.distillation.recipe import OnShortcut
from shortcutscope.debias.distillation.teacher_start import TeacherStart
from shortcutscope.debias.pixel_masks import InputMasks
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.debias.segmentation import Supervision, Unmasked
from shortcutscope.debias.teacher import Teacher
from shortcutscope.debias.training.fit import Training
from shortcutscope.debias.training.settings import Start
from shortcutscope.errors import InputError
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.models.heads.head import Output
from shortcutscope.options import OptionGroup, Running
from shortcutscope.probes.concept import Concept
from shortcutscope.types import JSON

#: Options of recipes that are said once for all of them.
SAID_ELSEWHERE = {"start": "training=Retraining(start=...)", "masks": "shortcut=Shortcut(masks=...)"}


@dataclass(frozen=True)
class Shortcut(OptionGroup):
    """What is to be unlearnt, and which samples and pixels carry it.

    Attributes
    ----------
    finding
        Of an audit with several shortcuts, which one; or several, which are unlearnt together (by the recipes
        that can: twins of images with the property of each, groups by the crossing of all).
    concept
        Which training samples carry the shortcut: the name of a finding of the audit, read from its column of
        the training samples exactly as the audit read it; a column of theirs; or a `Concept` by sample id,
        for example `Finding.label` of them. By default the finding's column, where they have it. Of several
        findings a mapping from the finding's name.
    present
        Column to the value that means that the artifact is there, where its words do not tell.
    clean_concept
        The same of the clean samples; by default their column, where they have it.
    masks
        Masks of the artifact on training images: a `MaskSet`, or a function from a row of the training table.

    Examples
    --------
    >>> ss.Shortcut(concept="tag").concept
    'tag'
    """

    finding: str | Sequence[str] | None = None
    concept: str | Concept | Mapping[str, str | Concept] | None = None
    present: Mapping[str, Any] | None = None
    clean_concept: Concept | None = None
    masks: MaskSet | InputMasks | None = None

    @property
    def findings(self) -> tuple[str, ...]:
        """Names of the findings; empty where none is named."""
        return (self.finding,) if isinstance(self.finding, str) else tuple(self.finding or ())


@dataclass(frozen=True)
class Retraining(OptionGroup):
    """How students are trained: the schedule, and where they begin.

    Attributes
    ----------
    training
        Schedule, budget, and the seed of everything random; without a learning rate of its own, that of
        `shortcutscope.debias.training.settings.RATES` for the start.
    start
        Where students begin: ``"model"`` fine-tunes the network, so that what it has learnt (as by
        pretraining) is kept; ``"fresh"`` draws new weights. Recipes that distil copy their teacher, which is
        the network fine-tuned on the clean samples, unless ``"fresh"`` is asked for.
    initial
        Makes the network with new weights, from a seed, where one is needed; for example of another
        architecture. None draws new weights for the model.
    validation
        Samples for early stopping, see `Training.select`.

    Raises
    ------
    InputError
        Another start.

    Examples
    --------
    >>> ss.Retraining(training=ss.Training(epochs=2), start="fresh").start
    'fresh'
    """

    training: Training = field(default_factory=Training)
    start: Start = "model"
    initial: Callable[[int], nn.Module] | None = None
    validation: ImageTable | None = None


class RecipeOptions(TypedDict, total=False):
    """Options of all recipes; `Recipe.check` says which of them a recipe takes."""

    # distillation
    form: Form | None
    labels: Labels
    label_weight: float
    logit_weight: float
    layer_weight: float
    temperature: float
    reverse: bool
    along: float
    directions: int
    clean_share: float
    teacher: Teacher | nn.Module | Literal["specialist"] | None
    teacher_start: TeacherStart
    on_shortcut: OnShortcut
    cache: bool | None
    # where in the network
    layer: str | float | None
    layers: str | Sequence[str] | Mapping[str, float] | None
    # the last layer, groups, and what is hard
    c: float | Sequence[float]
    n_subsets: int
    gamma: float | Sequence[float]
    penalty: float | Sequence[float]
    penalties: Sequence[float]
    sizes: Sequence[int]
    by: By | None
    samples: int
    head_steps: int
    head_lr: float
    dropout: float
    held_out_share: float
    adjustment: float
    eta: float
    weight_decay: float | None
    first_share: float
    upweight: float
    q: float
    decay: float
    alpha: float
    beta: float
    warmup: float
    p_label: float
    share: float | None
    transfer: str | Sequence[str] | None
    twins: int
    # what the features tell
    method: Method
    hidden: int
    weight: float | None
    balanced: bool
    rebalanced: bool
    # directions and pixels
    C: float
    classifier: Classifier
    conditional: bool
    on: On
    refit: Refit
    trained: Trained
    strength: float
    scale_batches: int
    scale_momentum: float | None
    slope: Slope
    batch_norm: BatchNorm | None
    # segmentation
    supervision: Supervision
    unmasked: Unmasked
    foreground: int
    width: int
    balance: bool


class DebiasOptions(RecipeOptions, total=False):
    """The options of `debias` beside the samples, and of the recipes."""

    audit: AuditRecord | FindingRecord | str | Path | None
    shortcut: Shortcut | None
    held_out: ImageTable | None
    test: ImageTable | None
    training: Training | Retraining | None
    head: Output
    out: str | Path | None
    running: Running | None


def refuse_options(recipe: str, options: JSON) -> None:
    """Refuse options that a recipe does not take, or that are out of range.

    Parameters
    ----------
    recipe
        A name, or ``"recommended"``: then what no recipe takes is refused.
    options
        By name.

    Raises
    ------
    InputError
        Names the option and what is allowed; also for one that has a place of its own.
    """
    for name, place in SAID_ELSEWHERE.items():
        if name in options:
            raise InputError(f"{name}= is no option of one recipe alone; say {place}")
    if recipe != "recommended":
        RECIPES[recipe].check(options)
        return
    types = get_type_hints(RecipeOptions)
    unknown = sorted(set(options) - set(types))
    if unknown:
        raise InputError(f"no recipe takes an option {unknown[0]!r}; there are {', '.join(types)}")
    check_types(options, types)
