"""Retrain a biased network by a recipe: what `shortcutscope.debias` and `shortcutscope.distill` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Unpack, cast

import numpy as np
from torch import nn

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.identity import refuse_other_data, refuse_other_model
from shortcutscope.audit.record import AuditRecord
from shortcutscope.data.apart import assert_tables_apart, shared_rows
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.agreement import refuse_strange_samples
from shortcutscope.debias.carriers import carried, values_of
from shortcutscope.debias.distillation.recipe import distil
from shortcutscope.debias.guided import guided_by
from shortcutscope.debias.needs import require
from shortcutscope.debias.options import (
    DebiasOptions,
    RecipeOptions,
    Retraining,
    Shortcut,
    refuse_options,
)
from shortcutscope.debias.pixel_masks import InputMasks, input_masks
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.recipes import RECIPES, Recipe
from shortcutscope.debias.recommendation import recommend
from shortcutscope.debias.scores import of_initial, reading, released, trained_head
from shortcutscope.debias.student import Student, student_folder, version
from shortcutscope.debias.training.fit import Training
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.locking import locked
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.models.fingerprint import model_fingerprint
from shortcutscope.models.heads.head import Head, Output
from shortcutscope.options import Running
from shortcutscope.planting.planting import PlantedSource
from shortcutscope.probes.concept import Concept
from shortcutscope.processes import is_first
from shortcutscope.types import JSON, Record


def debias(
    model: nn.Module,
    train: ImageTable,
    *,
    clean: ImageTable | None = None,
    audit: AuditRecord | FindingRecord | str | Path | None = None,
    shortcut: Shortcut | None = None,
    held_out: ImageTable | None = None,
    test: ImageTable | None = None,
    recipe: str = "recommended",
    training: Training | Retraining | None = None,
    head: Output = None,
    out: str | Path | None = None,
    running: Running | None = None,
    **options: Unpack[RecipeOptions],
) -> Student:
    """Retrain a network so that it does without a shortcut.

    Parameters
    ----------
    model
        The biased network. It is not changed.
    train
        The biased training samples. Those that are clean, too, are taken out of it.
    clean
        Samples in which the shortcut tells nothing of the label, some of which carry it.
    audit
        An audit, its run directory, or one of its findings, such as ``audit["tag"]``. Gives the layers, and
        the concept by name.
    shortcut
        Which shortcut, of an audit with several, and which samples and pixels carry it.
    held_out
        Samples to judge a teacher on, with the concept's column; for example those that were audited.
    test
        Samples that the result will be judged on: none of them, nor of their patients, may be trained on.
    recipe
        A name of ``shortcutscope.debias.recipes.RECIPES``, or ``"recommended"``, which asks `recommend`.
    training
        Schedule and seed; or with these, where students begin.
    head
        Which scores are trained, as in `shortcutscope.audit`. By default those audited.
    out
        Folder of the student; by default ``students/<recipe>`` of the audit's run, else nothing is kept.
    running
        Whether to show bars. Networks are trained where `model` is, as `training` says.
    **options
        Of the recipe.

    Returns
    -------
    Student

    Raises
    ------
    InputError
        Before any long work, for whatever the recipe lacks, samples or patients on two sides, and options
        out of range.
    ModelError
        When the loss becomes NaN or infinite.

    Examples
    --------
    >>> student = ss.debias(model, train, clean=clean, audit=audit["tag"])  # doctest: +SKIP
    """
    shortcut, running = shortcut or Shortcut(), running or Running()
    running.require_only("debias", "progress")
    plan = training if isinstance(training, Retraining) else Retraining(training or Training())
    start, seed, validation, masks = plan.start, plan.training.seed, plan.validation, shortcut.masks
    refuse_options(recipe, options)
    chosen_findings, findings = _findings_of(audit, shortcut.findings)
    found = chosen_findings[0] if chosen_findings else None
    judged = {"clean": clean, "held_out": held_out, "validation": validation, "test": test}
    for name, table in {"train": train, **judged}.items():
        if table is not None:
            table.require_one_label(name)
    if found is not None and found.run is not None:
        refuse_other_model(found.run, model)
        _refuse_other_tables(found.run, {"train": train, **judged})
    biased, notes = _without(train, clean)
    _require_apart(biased, clean, {"test": test, "held_out": held_out, "validation": validation})
    tables = [table for table in (biased, clean, held_out) if table is not None]
    known, beside = carried(shortcut, chosen_findings, tables, findings)
    if found is not None and found.run is not None:
        refuse_strange_samples(found.run, model, biased, values_of(known, biased))
    head, told = trained_head(model, [biased, *filter(None, [clean])], head, found.run if found else None)
    notes += told
    problem = DebiasProblem(
        model=model,
        train=biased,
        clean=clean,
        carries=values_of(known, biased),
        clean_carries=values_of(shortcut.clean_concept or known, clean),
        beside=beside,
        masks=_input_masks(masks, biased, train),
        layers=dict(found.layers) if found and found.layers else None,
        validation=validation,
        judged_on=held_out if values_of(known, held_out) is not None else None,
        concept=known,
        positive=int(found.association.get("positive", 1)) if found else 1,
        start=start,
        initial=of_initial(plan.initial, model, head),
        training=plan.training,
        seed=seed,
        progress=running.progress,
    )
    advice = None
    if recipe == "recommended":
        advice = recommend(problem, *chosen_findings)
        notes += [f"{advice.recipe} was recommended", *advice.reasons]
        recipe, options = advice.recipe, cast("RecipeOptions", {**advice.options, **options})
    chosen = RECIPES[recipe]
    chosen.check(options)
    chosen.check_training(plan.training)
    begins = chosen.starting(start)
    require(chosen, problem)
    _require_used(plan.initial, problem)
    name = recipe if not beside else f"{recipe}, {len(chosen_findings)} findings"
    folder = _folder(out, found, name)
    if folder is not None:
        require_writable(folder)
    outcome = _run(chosen, problem.with_out(folder), head, folder, {**begins, **options})
    record = _record(problem, chosen, options, outcome, known or found, head)
    record |= {} if advice is None else {"recommendation": advice.to_dict()}
    if plan.training.own:
        notes.append(f"trained with what you gave: {_given(plan.training)}")
    if start == "fresh":
        notes.append("begun with new weights (start='fresh'): what the network had learnt was not used")
    guided = guided_by(problem, teacher=chosen.run is distil, fits_validation=chosen.fits_validation)
    all_notes = (*notes, *outcome.notes)
    student = Student(name, outcome.model, all_notes, record, outcome.history, folder, guided)
    if folder is not None and is_first():
        student.save(folder)
    return student


def _refuse_other_tables(run: Path, tables: Mapping[str, ImageTable | None]) -> None:
    """Refuse samples that are read otherwise than those that were audited."""
    for name, table in tables.items():
        if table is not None:
            planted = isinstance(table.source, PlantedSource)
            refuse_other_data(run, table, f"the samples of {name}", others=planted)


def _run(recipe: Recipe, problem: DebiasProblem, head: Head, folder: Path | None, options: JSON) -> Outcome:
    with (
        locked(folder) if folder is not None and is_first() else nullcontext(),
        reading(problem.model, head),
    ):
        outcome = recipe(problem, **options)
        released(outcome.model)
    return outcome


def _given(training: Training) -> str:
    """The user's own functions, by name."""
    said = training.said()
    return ", ".join(
        f"{name}={', '.join(said[name]) if name == 'callbacks' else said[name]}" for name in training.own
    )


def _record(
    problem: DebiasProblem,
    recipe: Recipe,
    options: JSON,
    outcome: Outcome,
    concept: Concept | FindingRecord | None,
    head: Head,
) -> Record:
    """How a student was trained."""
    start, clean = problem.start, problem.clean
    return {
        "version": version(),
        "options": {key: repr(value) if callable(value) else value for key, value in options.items()},
        "start": start if start == "fresh" else dict(recipe.fixed).get("start", start),
        "lr": None if problem.training.has_own_rate else problem.schedule(start).lr,
        "training": problem.training.said(),
        "steps": outcome.steps,
        "n_train": len(problem.train),
        "n_clean": 0 if clean is None else len(clean),
        "concept": None if concept is None else concept.name,
        **({"beside": list(problem.beside)} if problem.beside else {}),
        "base": model_fingerprint(problem.model),
        "data": problem.train.fingerprint(),
        "head": head.to_json(),
        "seed": problem.seed,
        "details": dict(outcome.details),
    }


def distill(
    model: nn.Module,
    train: ImageTable,
    *,
    clean: ImageTable,
    recipe: str = "audited-distillation",
    **options: Unpack[DebiasOptions],
) -> Student:
    """Distil a specialist teacher, trained on the clean samples, into a student at intermediate layers.

    The same as `debias` with a recipe of distillation; `options` are those of `debias` and
    `shortcutscope.debias.distillation.options.Distillation`.

    Examples
    --------
    >>> student = ss.distill(model, train, clean=clean, audit=audit["tag"])  # doctest: +SKIP
    """
    return debias(model, train, recipe=recipe, clean=clean, **options)


def _require_used(initial: Callable[[int], nn.Module] | None, problem: DebiasProblem) -> None:
    """Refuse networks of another architecture where students begin from the model.

    Raises
    ------
    InputError
        When `initial` makes one.
    """
    if initial is None or problem.start == "fresh":
        return
    made, own = ({k: v.shape for k, v in n.state_dict().items()} for n in (initial(0), problem.model))
    if made != own:
        raise InputError(
            "initial= makes a network of another architecture than the model, and start='model' begins from "
            "the model itself; give start='fresh' to train what initial= makes"
        )


def _findings_of(
    audit: AuditRecord | FindingRecord | str | Path | None, names: Sequence[str]
) -> tuple[tuple[FindingRecord, ...], tuple[FindingRecord, ...]]:
    """The findings to unlearn, and all of their audit."""
    if audit is None or isinstance(audit, FindingRecord):
        if len(names) > 1:
            raise InputError("several findings are of one audit: give audit=, the audit or its run directory")
        return (() if audit is None else (audit,),) * 2
    opened = audit if isinstance(audit, AuditRecord) else AuditRecord.open(audit)
    opened.require_one_output("unlearning")
    chosen = [opened.finding(name) for name in names] or [only_shortcut(opened)]
    for k, finding in enumerate(chosen):
        if finding.name in [other.name for other in chosen[:k]]:
            raise InputError(
                f"the finding {finding.name!r} is given twice ({', '.join(names)}): give each once"
            )
    return tuple(chosen), opened.findings


def only_shortcut(audit: AuditRecord) -> FindingRecord:
    """The one shortcut of an audit.

    Raises
    ------
    InputError
        When it found none, or several.
    """
    if len(audit.shortcuts) == 1:
        return audit.shortcuts[0]
    there = ", ".join(repr(f.name) for f in audit.shortcuts)
    say = "audit=audit['name'], on the command line --finding"
    raise InputError(
        f"the audit found {len(audit.shortcuts)} shortcuts ({there}): say which one to unlearn, as {say}"
        if audit.shortcuts
        else f"the audit found no shortcut; if one of its concepts is to be unlearnt anyway, say {say}"
    )


def _without(train: ImageTable, clean: ImageTable | None) -> tuple[ImageTable, list[str]]:
    """The training samples that are not clean ones."""
    if clean is None:
        return train, []
    inside = shared_rows(train, clean)
    if not inside.any():
        return train, []
    if inside.all():
        raise InputError("all training samples are clean ones: nothing biased is left to learn from")
    notes = [f"{int(inside.sum())} clean samples were taken out of the biased ones"]
    return train.take(np.flatnonzero(~inside)), notes


def _require_apart(train: ImageTable, clean: ImageTable | None, others: dict[str, ImageTable | None]) -> None:
    """Refuse samples, or patients, that are trained on and judged on."""
    for role, table in others.items():
        if table is None:
            continue
        for what, trained in (("training", train), ("clean", clean)):
            if trained is None:
                continue
            where = f"in the {what} samples and in {role}"
            mend = "what is judged on must not be trained on; take them out of one of the two"
            assert_tables_apart(trained, table, where, mend)


def _input_masks(
    masks: MaskSet | InputMasks | None, biased: ImageTable, train: ImageTable
) -> InputMasks | None:
    if masks is None or isinstance(masks, MaskSet):
        return None if masks is None else input_masks(masks, biased)
    if len(biased) == len(train):
        return masks
    row_of = {name: row for row, name in enumerate(train.frame["sample_id"])}
    rows = [row_of[name] for name in biased.frame["sample_id"]]
    return lambda row: masks(rows[row])


def _folder(out: str | Path | None, found: FindingRecord | None, recipe: str) -> Path | None:
    if out is not None:
        return Path(out) / slug(recipe)
    return student_folder(found.run, recipe) if found is not None and found.run is not None else None
