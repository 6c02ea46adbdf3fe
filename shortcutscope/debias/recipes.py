"""The recipes by name: what each needs, which labels it sees, and where it comes from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from shortcutscope.allowed import check_types
from shortcutscope.debias.baselines.adversarial import adversarial
from shortcutscope.debias.baselines.afr import afr
from shortcutscope.debias.baselines.artifact_augmentation import artifact_augmentation
from shortcutscope.debias.baselines.counterfactual import counterfactual_augmentation
from shortcutscope.debias.baselines.disagreement import selective_finetuning
from shortcutscope.debias.baselines.early_readout import dedier
from shortcutscope.debias.baselines.erm import clean_only, erm, finetune, pooled
from shortcutscope.debias.baselines.failure import lff
from shortcutscope.debias.baselines.group_dro import group_dro
from shortcutscope.debias.baselines.last_layer import dfr
from shortcutscope.debias.baselines.loss_sampling import evals
from shortcutscope.debias.baselines.mixing import lisa, mixup
from shortcutscope.debias.baselines.reweighing import (
    balanced_finetune,
    group_balanced,
    group_balanced_ce,
    reweighing,
)
from shortcutscope.debias.baselines.two_stage import jtt
from shortcutscope.debias.clarc.clarc import p_clarc, reactive_p_clarc, rr_clarc
from shortcutscope.debias.clarc.erasure import leace
from shortcutscope.debias.clarc.rrr import rrr
from shortcutscope.debias.distillation.options import Distillation, DistillationChoices
from shortcutscope.debias.distillation.recipe import distil
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.samples import CLEAN_SHARE
from shortcutscope.debias.segmentation import spatial_specificity
from shortcutscope.debias.training.settings import Start, Training
from shortcutscope.errors import InputError
from shortcutscope.registry import Entry, Registry
from shortcutscope.types import JSON, Record

#: Why a recipe refuses an option of `Training` that is the user's own.
_WHY = {
    "loss": "its loss is its own",
    "augmentation": "it needs the images as they are, since it knows something of their pixels",
}
_ALL_OWN = frozenset({"optimizer", "schedule", "augmentation", "loss", "callbacks"})
_NO_STEPS = " ".join(sorted(_ALL_OWN))


@dataclass(frozen=True)
class Recipe:
    """A way to unlearn a shortcut.

    Attributes
    ----------
    name
        In the registry, in results and on the command line.
    summary, source
        What it does, in a line, and the paper.
    needs
        Keys of `shortcutscope.debias.needs.NEEDS`.
    trains
        False where the network's weights stay as they are.
    run
        Takes `DebiasProblem` and options, whose types say what is allowed, see
        `shortcutscope.allowed.check_types`.
    fixed
        Options that make it this recipe.
    only_model
        Whether it can begin from the biased network alone.
    refuses
        Options of `Training` that may not be the user's own functions: its loss is its own, it needs the
        images as they are, or it takes no steps.
    several
        Whether it unlearns several findings at once.
    """

    name: str
    summary: str
    source: str
    run: Callable[..., Outcome]
    needs: frozenset[str] = frozenset()
    trains: bool = True
    fixed: tuple[tuple[str, Any], ...] = ()
    only_model: bool = False
    refuses: frozenset[str] = frozenset()
    several: bool = False

    def starting(self, start: Start) -> Record:
        """The options by which it begins where it is asked to.

        Raises
        ------
        InputError
            When it cannot begin with new weights.
        """
        if start == "model":
            return {}
        if self.only_model or not self.trains:
            raise InputError(
                f"recipe {self.name!r} changes the biased network itself, so start='fresh' means nothing; "
                "leave start out, or choose a recipe that trains from new weights, such as "
                + ("'clean-only'" if "clean" in self.needs else "'erm' or 'group-balanced'")
            )
        return {"start": start} if "start" in self.options else {}

    @property
    def fits_validation(self) -> bool:
        """Whether the validation samples are learnt from, and not only chosen by."""
        return self.run in (afr, selective_finetuning, evals)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that it takes."""
        parameters = inspect.signature(self.run).parameters.values()
        names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        if self.run is distil:
            names += [field.name for field in fields(Distillation)]
        return tuple(names)

    @property
    def types(self) -> Record:
        """Type hints of the options."""
        try:
            types = get_type_hints(self.run, include_extras=True)
        except (NameError, TypeError):  # another package's: names that are there for type checkers alone
            return {}
        return types | (get_type_hints(DistillationChoices) if self.run is distil else {})

    def check(self, options: JSON) -> None:
        """Raise `InputError` for an option that the recipe does not take, or that is out of range."""
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise InputError(
                f"recipe {self.name!r} takes no option {unknown[0]!r}; it takes "
                f"{', '.join(self.options) or 'none'}"
            )
        check_types(options, self.types)
        if self.run is distil:
            chosen = {**dict(self.fixed), **options}
            own = {name: chosen[name] for name in DistillationChoices.__annotations__ if name in chosen}
            Distillation().but(**own).check()

    def check_training(self, training: Training) -> None:
        """Refuse functions of the user's own that the recipe cannot use.

        Raises
        ------
        InputError
            Names the option.
        """
        for name in training.own:
            if name not in self.refuses:
                continue
            why = "it takes no steps of an optimizer" if self.refuses == _ALL_OWN else _WHY[name]
            raise InputError(
                f"recipe {self.name!r} cannot use {name}={training.said()[name]}: {why}; leave it out, or "
                "choose one that learns labels by steps of its own, such as 'erm' or 'group-balanced'"
            )

    def __call__(self, problem: DebiasProblem, **options: object) -> Outcome:
        """Run it."""
        self.check(options)
        self.check_training(problem.training)
        return self.run(problem, **{**dict(self.fixed), **options})


def _recipe(
    name: str,
    summary: str,
    source: str,
    run: Callable[..., Outcome],
    needs: str = "",
    *,
    trains: bool = True,
    only_model: bool = False,
    refuses: str = "",
    several: bool = False,
    **fixed: object,
) -> Recipe:
    needed, options = frozenset(needs.split()), tuple(fixed.items())
    return Recipe(
        name, summary, source, run, needed, trains, options, only_model, frozenset(refuses.split()), several
    )


_ALL = (
    _recipe("erm", "cross-entropy on the biased samples", "Vapnik 1998", erm),
    _recipe(
        "clean-only", "cross-entropy on the clean subset alone", "Boland et al. 2025", clean_only, "clean"
    ),
    _recipe("pooled", "cross-entropy on biased and clean samples together", "", pooled, "clean"),
    _recipe(
        "finetune", "trained on the biased, then on the clean samples", "", finetune, "clean", only_model=True
    ),
    _recipe(
        "reweighing",
        "weights P(y) P(a) / P(y, a)",
        "Kamiran & Calders 2012",
        reweighing,
        "groups conflicting",
        several=True,
    ),
    _recipe(
        "group-balanced",
        "every group of label and shortcut drawn alike",
        "Idrissi et al. 2022",
        group_balanced,
        "groups conflicting",
        several=True,
    ),
    _recipe(
        "group-balanced-ce",
        "every group of label and shortcut weighs the same",
        "Sagawa et al. 2020",
        group_balanced_ce,
        "groups conflicting",
        several=True,
    ),
    _recipe(
        "balanced-finetune",
        "fine-tuned on the clean samples, then on all, every group weighing the same",
        "after Sagawa et al. 2020",
        balanced_finetune,
        "clean groups conflicting",
    ),
    _recipe(
        "group-dro",
        "the worst group's loss",
        "Sagawa et al. 2020",
        group_dro,
        "groups conflicting",
        several=True,
    ),
    _recipe("jtt", "the errors of a short first stage weigh more", "Liu et al. 2021", jtt),
    _recipe("lff", "what a biased network finds hard weighs more", "Nam et al. 2020", lff, refuses="loss"),
    _recipe("mixup", "mixed images and labels", "Zhang et al. 2018", mixup),
    _recipe("lisa", "mixed within a label or a group", "Yao et al. 2022", lisa, "groups conflicting"),
    _recipe(
        "artifact-augmentation",
        "the artifact pasted on other images",
        "after Pahde et al. 2025",
        artifact_augmentation,
        "masks",
    ),
    _recipe(
        "counterfactual-augmentation",
        "twins of each image with properties (exposure, noise, ...) of others, and its own label",
        "after Kaushik et al. 2020",
        counterfactual_augmentation,
        several=True,
    ),
    _recipe(
        "dann",
        "features that do not tell the shortcut, by gradient reversal",
        "Ganin et al. 2016",
        adversarial,
        "groups",
    ),
    _recipe(
        "confusion",
        "features that do not tell the shortcut, by a confusion loss",
        "Dinsdale et al. 2021",
        adversarial,
        "groups",
        method="confusion",
    ),
    _recipe(
        "balanced-dann",
        "rebalancing with disentanglement: groups drawn alike, features that do not tell the shortcut",
        "after Mueller & Berens 2026",
        adversarial,
        "groups conflicting",
        rebalanced=True,
    ),
    _recipe(
        "dfr",
        "the last layer refitted on the clean subset",
        "Kirichenko et al. 2023",
        dfr,
        "clean",
        only_model=True,
        refuses=_NO_STEPS,
    ),
    _recipe(
        "afr",
        "the last layer refitted on held-out samples, those of low probability weighing more",
        "Qiu et al. 2023",
        afr,
        refuses="loss",
    ),
    _recipe(
        "self",
        "the last layer fine-tuned on held-out samples that a weaker network sees differently",
        "LaBonte et al. 2023",
        selective_finetuning,
        refuses="loss",
    ),
    _recipe(
        "evals",
        "the last layer refitted on samples of large and small loss, chosen by inferred environments",
        "Ghaznavi et al. 2024",
        evals,
        refuses="loss",
    ),
    _recipe(
        "dedier",
        "distilled, confident errors of an early readout weigh more",
        "Tiwari et al. 2024",
        dedier,
        "clean",
        refuses="loss",
        teacher="specialist",
    ),
    _recipe(
        "rrr",
        "no gradient on the artifact's pixels",
        "Ross et al. 2017",
        rrr,
        "masks",
        refuses="loss augmentation",
    ),
    _recipe(
        "rr-clarc",
        "no gradient along the shortcut's direction",
        "Dreyer et al. 2024",
        rr_clarc,
        "groups",
        refuses="loss",
    ),
    _recipe(
        "p-clarc",
        "the shortcut's direction set to clean",
        "Anders et al. 2022",
        p_clarc,
        "groups",
        trains=False,
        refuses=_NO_STEPS,
    ),
    _recipe(
        "reactive-p-clarc",
        "the same, only where a classifier sees it",
        "Bareeva et al. 2024",
        reactive_p_clarc,
        "groups",
        trains=False,
        refuses=_NO_STEPS,
    ),
    _recipe(
        "leace",
        "the concept erased at a layer",
        "Belrose et al. 2023",
        leace,
        "groups",
        trains=False,
        refuses=_NO_STEPS,
    ),
    _recipe(
        "segmentation",
        "supervised by masks of what the label is about",
        "Saab et al. 2022",
        spatial_specificity,
        "annotations",
        refuses="loss augmentation",
        supervision="segmentation",
    ),
    _recipe(
        "logit-distillation",
        "a specialist teacher's logits",
        "Hinton et al. 2015",
        distil,
        "clean",
        refuses="loss",
        form=None,
    ),
    _recipe(
        "intermediate-distillation",
        "a specialist teacher's logits and intermediate probes, all blocks alike",
        "after Boland et al. 2025",
        distil,
        "clean",
        refuses="loss",
        form="probes",
        layers="uniform",
    ),
    _recipe(
        "audited-distillation",
        "a specialist teacher's logits and features at the layers that the audit chose, and clean labels",
        "after Boland et al. 2025",
        distil,
        "clean",
        refuses="loss",
        form="features",
        layers="audit",
        labels="clean",
        clean_share=CLEAN_SHARE,
        start="teacher",
    ),
    _recipe(
        "clean-distillation",
        "a specialist teacher's logits, and labels of the clean samples",
        "after Hinton et al. 2015",
        distil,
        "clean",
        refuses="loss",
        form=None,
        labels="clean",
        clean_share=CLEAN_SHARE,
        start="teacher",
        teacher_start="auto",
    ),
    _recipe(
        "balanced-distillation",
        "a specialist teacher's logits, and labels with every group weighing the same",
        "after Hinton et al. 2015 and Sagawa et al. 2020",
        distil,
        "clean groups conflicting",
        refuses="loss",
        form=None,
        labels="group-balanced",
        clean_share=CLEAN_SHARE,
        start="teacher",
    ),
    _recipe(
        "balanced-audited-distillation",
        "both: logits, features at the audit's layers, and labels with every group weighing the same",
        "after Boland et al. 2025 and Sagawa et al. 2020",
        distil,
        "clean groups conflicting",
        refuses="loss",
        form="features",
        layers="audit",
        labels="group-balanced",
        clean_share=CLEAN_SHARE,
        start="teacher",
    ),
)

#: Recipes by name.
RECIPES = Registry[Recipe](
    "recipe", "shortcutscope.recipes", {recipe.name: Entry(recipe, recipe.summary) for recipe in _ALL}
)
