"""``shortcutscope debias`` and ``shortcutscope compare``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from shortcutscope.cli.inputs import named_values, open_table, open_training_columns, present_choice
from shortcutscope.cli.options import (
    DataOptions,
    ModelOfRun,
    ModelOptions,
    Present,
    ReadingOptions,
    TrainingOptions,
    expanded,
)
from shortcutscope.cli.origin import Origin, origin_of
from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable
    from shortcutscope.debias.options import DebiasOptions
    from shortcutscope.debias.student import Student
    from shortcutscope.facade import Audit, Comparison

_SAMPLES, _RECIPE = "Samples", "Recipe"


@expanded
def debias(
    *,
    run: Annotated[Path, typer.Argument(help="Run directory of an audit.")],
    model: ModelOfRun = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="DATA of the biased training samples; default: those that the audit was told of.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(
            help="Samples in which the shortcut tells nothing of the label: DATA, or a CSV of ids of --data.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="DATA to judge the teacher on, with the concept's column.", rich_help_panel=_SAMPLES
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            help="DATA that the result will be judged on: refused if any was trained on.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    finding: Annotated[
        list[str] | None,
        typer.Option(help="Which shortcut, of several; given twice, both are unlearnt together."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="recommended, all, or names; list shows them.", rich_help_panel=_RECIPE)
    ] = "recommended",
    concept: Annotated[
        str | None,
        typer.Option(
            help="Finding, or column of --data, that says which samples carry the shortcut.",
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    present: Present = None,
    retrieved: Annotated[
        bool,
        typer.Option(
            "--retrieved",
            help="Retrieve the carriers among --data by the run's marks, or else by the audited values.",
            rich_help_panel=_RECIPE,
        ),
    ] = False,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of masks of the artifact on training images.", rich_help_panel=_RECIPE),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="Option of the recipe, such as temperature=2 or layers=uniform.", rich_help_panel=_RECIPE
        ),
    ] = None,
    training: TrainingOptions,
    making: ModelOptions,
    reading: DataOptions,
    running: ReadingOptions,
    seed: Annotated[int, typer.Option(help="Seed of weights, samples and draws.")] = 0,
) -> None:
    """Retrain the audited model so that it does without a shortcut; the students are kept in the run."""
    from shortcutscope.data.decoding.decoded import DecodedImages
    from shortcutscope.debias.options import Shortcut, refuse_options
    from shortcutscope.debias.unlearn import debias as retrain
    from shortcutscope.debias.unlearn import only_shortcut
    from shortcutscope.facade import Audit
    from shortcutscope.masks.maskset import MaskSet
    from shortcutscope.processes import is_first, own_device

    console = Console()
    if recipe == "list":
        print_recipes(console)
        return
    recipes, chosen = recipes_named(recipe), named_values(option or (), "--option")
    for name in recipes:
        refuse_options(name, chosen)
    audit = Audit.open(run)
    origin = origin_of(run, model, making, data, reading)
    loaded, reading = origin.network(), origin.reading
    loaded.to(training.device or own_device())
    how = running.reading()
    images = DecodedImages(how.cache, how.cache_gb)  # of all tables and for all recipes
    train = training_rows(origin.table()) if data is not None else known_training_rows(origin)
    train = train.keeping(how, images)

    def held_out_of(path: Path | None) -> ImageTable | None:
        return None if path is None else held_out_rows(open_table(path, reading)).keeping(how, images)

    shortcut = Shortcut(
        finding, concept, present_choice(present), masks=None if masks is None else MaskSet.open(masks)
    )
    unlearning: DebiasOptions = {
        **cast("DebiasOptions", chosen),
        "audit": audit,
        "held_out": held_out_of(held_out),
        "test": held_out_of(test),
        "training": training.group(how.workers, seed),
    }
    clean_rows = None if clean is None else clean_table(clean, train, reading).keeping(how, images)
    if retrieved:
        findings = [audit.finding(name) for name in finding or [only_shortcut(audit).name]]
        labelled = {one.name: one.label(loaded, train) for one in findings}
        concepts = labelled if len(findings) > 1 else labelled[findings[0].name]
        shortcut = replace(shortcut, concept=concepts)
    unlearning["shortcut"] = shortcut
    for name in recipes:
        student = retrain(loaded, train, recipe=name, clean=clean_rows, **unlearning)
        if is_first():
            console.print(repr(student), markup=False, highlight=False, soft_wrap=True)
    if is_first():
        console.print("Judge them on held-out samples: shortcutscope compare", markup=False, highlight=False)


def recipes_named(text: str) -> list[str]:
    """``recommended``, ``all``, or comma-separated names.

    Raises
    ------
    InputError
        For no name, and one that no recipe has.
    """
    from shortcutscope.debias.recipes import RECIPES

    names = [name.strip() for name in text.split(",") if name.strip()]
    allowed = ("recommended", "all", *RECIPES)
    unknown = [name for name in names if name not in allowed]
    if unknown or not names or ("all" in names and len(names) > 1):
        wrong = f"no recipe {unknown[0]!r}" if unknown else f"--recipe {text!r} is not allowed"
        raise InputError(f"{wrong}; give one or several, comma-separated, of {', '.join(allowed)}")
    return list(RECIPES) if names == ["all"] else names


def print_recipes(console: Console) -> None:
    """Every recipe with what it needs."""
    from rich.table import Table

    from shortcutscope.debias.recipes import RECIPES

    table = Table(title="Recipes")
    for column in ("recipe", "what it does", "source", "needs"):
        table.add_column(column, overflow="fold")
    for name, recipe in RECIPES.items():
        table.add_row(name, recipe.summary, recipe.source, ", ".join(sorted(recipe.needs)))
    console.print(table)


def training_rows(table: ImageTable) -> ImageTable:
    """The rows of the training split, or all where the table has none."""
    import numpy as np

    in_training = table.frame["split"].astype(str).str.lower().isin(("train", "training")).to_numpy()
    return table.take(np.flatnonzero(in_training)) if in_training.any() else table


def known_training_rows(origin: Origin) -> ImageTable:
    """The training samples that the audit was told of.

    Raises
    ------
    InputError
        When it was told of none.
    """
    import numpy as np

    if origin.train_data is not None:
        return training_rows(open_table(origin.train_data, origin.reading))
    table = origin.table()
    in_training = training_rows(table)
    if (
        len(in_training) == len(table)
        and not np.isin(table.frame["split"].str.lower(), ("train", "training")).all()
    ):
        raise InputError(
            f"{origin.run} was told of no training samples: give --data, those that the model was trained on"
        )
    return in_training


def held_out_rows(table: ImageTable) -> ImageTable:
    """The rows of all splits but the training split."""
    import numpy as np

    in_training = table.frame["split"].astype(str).str.lower().isin(("train", "training")).to_numpy()
    return table.take(np.flatnonzero(~in_training))


def clean_table(path: Path, train: ImageTable, reading: DataOptions) -> ImageTable:
    """The clean samples: DATA of their own, or those of the training table whose ids a CSV names.

    Raises
    ------
    InputError
        For ids that the training table does not have.
    """
    import numpy as np

    from shortcutscope.data.manifests.manifest import read_manifest
    from shortcutscope.data.sample_names import as_ids

    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        ids = reading.sample_id or "sample_id"
        frame = read_manifest(path, [ids])
        if reading.image not in frame.columns and ids in frame.columns:
            row_of = {name: row for row, name in enumerate(train.frame["sample_id"].astype(str))}
            wanted = as_ids(frame[ids].astype(str), list(row_of), train.files)
            unknown = [name for name in wanted if name not in row_of]
            if unknown:
                raise InputError(
                    f"{len(unknown)} ids of {path} are no training samples, among them {unknown[0]!r}; give "
                    "a manifest with their images, or ids of --data"
                )
            return train.take(np.array([row_of[name] for name in wanted]))
    return open_table(path, reading)


@expanded
def compare(
    *,
    run: Annotated[Path, typer.Argument(help="Run directory of an audit, with students.")],
    model: ModelOfRun = None,
    data: Annotated[
        Path | None,
        typer.Option(help="DATA of held-out samples; default: the audited ones.", rich_help_panel=_SAMPLES),
    ] = None,
    train_data: Annotated[
        Path | None,
        typer.Option(
            help="Manifest of the training samples: what the concept goes with. Its images are not read.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    students: Annotated[
        str | None, typer.Option(help="Comma-separated recipes; default: all students of the run.")
    ] = None,
    finding: Annotated[
        str | None, typer.Option(help="Concept to compare by; default: the costliest.")
    ] = None,
    present: Present = None,
    out: Annotated[
        Path | None, typer.Option(help="HTML file; by default comparison.html in the run.")
    ] = None,
    making: ModelOptions,
    reading: DataOptions,
    running: ReadingOptions,
    replacements: Annotated[
        bool,
        typer.Option(help="Search the students for shortcuts that took the place of the old one."),
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed of resamples and draws.")] = 0,
) -> None:
    """Compare the students of a run with the biased model: what got worse comes first."""
    from shortcutscope.cli.tables import print_comparison
    from shortcutscope.compare.options import Comparing
    from shortcutscope.facade import Audit
    from shortcutscope.facade import compare as compared
    from shortcutscope.options import Statistics

    audit = Audit.open(run)
    origin = origin_of(run, model, making, data, reading)
    loaded = origin.network()
    chosen = open_students(run, loaded, students)
    everything = origin.table()
    table = held_out_rows(everything)
    comparison = compared(
        audit,
        chosen,
        table,
        model=loaded,
        concept=finding,
        train=_training_samples(train_data, origin, everything, table),
        present=present_choice(present),
        comparing=Comparing(replacements=replacements),
        statistics=Statistics(seed=seed),
        running=running.reading(),
        out=run,
    )
    console = Console()
    print_comparison(console, comparison)
    if hint := _mending_of_both(audit, run, comparison):
        console.print(hint, markup=False, highlight=False, soft_wrap=True)
    page_path = comparison.report(out or run / "comparison.html")
    console.print(f"report: {page_path}", markup=False, highlight=False, soft_wrap=True)


def _mending_of_both(audit: Audit, run: Path, comparison: Comparison) -> str | None:
    """How to unlearn what took the place of a finding together with it; None where it is no finding."""
    names = [finding.name for finding in audit.findings]
    found = dict.fromkeys(one["concept"] for one in comparison.replacements if one["concept"] in names)
    if not found or comparison.concept not in names:
        return None
    tests = "".join(f"shortcutscope pixels {quote(str(run))} {quote(name)}; " for name in found)
    both = " ".join(f"--finding {quote(name)}" for name in (comparison.concept, *found))
    return f"to unlearn them together: {tests}shortcutscope debias {quote(str(run))} {both}"


def _training_samples(
    train_data: Path | None, origin: Origin, everything: ImageTable, held_out: ImageTable
) -> ImageTable | None:
    """Of a table of their own, or the training rows of the audited one."""
    if train_data is not None or origin.train_data is not None:
        manifest = train_data or Path(str(origin.train_data))
        return training_rows(open_training_columns(manifest, origin.reading, held_out, origin.train_split))
    return training_rows(everything) if len(held_out) < len(everything) else None


def open_students(run: Path, model: Any, names: str | None) -> list[Student]:
    """The students of a run, or those of some recipes.

    Raises
    ------
    InputError
        When there is none, or not the one that was named.
    """
    from shortcutscope.debias.student import METRICS, Student
    from shortcutscope.files import slug

    folder = run / "students"
    there = sorted(path.parent.name for path in folder.glob(f"*/{METRICS}"))
    wanted = [slug(name.strip()) for name in names.split(",")] if names else there
    missing = [name for name in wanted if name not in there]
    if missing or not wanted:
        raise InputError(
            f"no student {missing[0]!r} in {folder}; there are {', '.join(there) or 'none'}"
            if missing
            else f"{folder} holds no student: make one with `shortcutscope debias`"
        )
    return [Student.open(folder / name, model) for name in wanted]
