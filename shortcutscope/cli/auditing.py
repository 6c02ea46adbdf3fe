"""``shortcutscope audit``."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from shortcutscope.cli.config import take_config, write_config
from shortcutscope.cli.inputs import (
    concept_choice,
    head_of,
    layer_choice,
    open_model,
    open_table,
    open_training_columns,
    present_choice,
    resolved,
    target_choice,
    with_roles,
)
from shortcutscope.cli.options import (
    IMAGES,
    MODEL,
    RUNNING,
    DataOptions,
    HeadOptions,
    KeepPaths,
    ModelOptions,
    Present,
    RunningOptions,
    StatisticsOptions,
    expanded,
    one_of,
)
from shortcutscope.cli.origin import kept_options, remember
from shortcutscope.cli.running import FoundShortcutsError, NotDecidedError
from shortcutscope.errors import InputError
from shortcutscope.processes import is_main

if TYPE_CHECKING:
    from shortcutscope.models.texts import TextNaming

_ROLES = "What the samples are"
_NAMES = "Names"


@expanded
def audit(
    *,
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(help="torchvision:NAME, timm:NAME, hf:FOLDER or package.module:factory.")
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="Manifest (CSV, TSV, Parquet), image folder, npz, or DATASET:ROOT, such as chexpert:/data."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Run directory; an interrupted run there goes on.")],
    concepts: Annotated[
        str | None,
        typer.Option(
            help="Columns to test, comma-separated. Default: the metadata columns, and what is discovered."
        ),
    ] = None,
    present: Present = None,
    discover: Annotated[
        bool | None,
        typer.Option(
            "--discover/--no-discover",
            help="Look for shortcuts that nobody named. Default: where no --concepts are given.",
        ),
    ] = None,
    making: ModelOptions,
    layers: Annotated[
        str, typer.Option(help="blocks, all, or names and patterns.", rich_help_panel=MODEL)
    ] = "blocks",
    target: Annotated[
        str, typer.Option(help="Explained logit: predicted, label or a class.", rich_help_panel=MODEL)
    ] = "predicted",
    task: Annotated[
        str,
        typer.Option(
            help="What the classes are to each other.",
            rich_help_panel=MODEL,
            **one_of("auto", "multiclass", "binary", "multilabel"),
        ),
    ] = "auto",
    head: HeadOptions,
    positive: Annotated[
        int | None, typer.Option(help="Class that effects refer to.", rich_help_panel=MODEL)
    ] = None,
    attribution: Annotated[
        str,
        typer.Option(
            help="Relevance: gradient, lrp (checked; falls back to gradient) or lrp:COMPOSITE.",
            rich_help_panel=MODEL,
        ),
    ] = "gradient",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop where LRP does not hold on the model.", rich_help_panel=MODEL),
    ] = False,
    reading: DataOptions,
    on_unreadable: Annotated[
        str,
        typer.Option(
            help="Stop at an unreadable image, or skip and count it.",
            rich_help_panel=IMAGES,
            **one_of("raise", "skip"),
        ),
    ] = "raise",
    train_data: Annotated[
        Path | None,
        typer.Option(help="Manifest of the training samples (images not needed).", rich_help_panel=_ROLES),
    ] = None,
    train_split: Annotated[
        str | None, typer.Option(help="Split the model was trained on.", rich_help_panel=_ROLES)
    ] = None,
    audit_split: Annotated[
        str | None, typer.Option(help="Splits to audit; default: all but training.", rich_help_panel=_ROLES)
    ] = None,
    trained_on_these: Annotated[
        bool, typer.Option("--trained-on-these", help="The model saw these images.", rich_help_panel=_ROLES)
    ] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure",
            help="Measure columns of files and pictures (codec, size, mean grey, noise ...) and test them.",
            rich_help_panel=IMAGES,
        ),
    ] = True,
    text_model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a CLIP-like model of transformers, by which findings are named, too.",
            rich_help_panel=_NAMES,
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            help="What it chooses from, comma-separated (a ruler,hair); default: a list of artifacts.",
            rich_help_panel=_NAMES,
        ),
    ] = None,
    expected_auroc: Annotated[
        float | None,
        typer.Option(help="What the model should reach on such images.", rich_help_panel=_ROLES),
    ] = None,
    statistics: StatisticsOptions,
    running: RunningOptions,
    name: Annotated[
        str | None, typer.Option(help="What the report calls the model.", rich_help_panel=MODEL)
    ] = None,
    keep_paths: KeepPaths = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of options, as every run writes one (audit.toml); what is typed counts more.",
            callback=take_config,
            is_eager=True,
            rich_help_panel=RUNNING,
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show errors alone.", rich_help_panel=RUNNING)
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Say of each verdict why.", rich_help_panel=RUNNING),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the verdicts as JSON and nothing else.", rich_help_panel=RUNNING),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it would cost; write nothing.", rich_help_panel=RUNNING),
    ] = False,
) -> None:
    """Audit a trained model for shortcuts and write the report. Exit code 2: found some, 3: not decided."""
    from shortcutscope.audit.audited_data import ConceptRequest, TrainingData, require_auroc
    from shortcutscope.audit.stages import estimate_audit
    from shortcutscope.cli.tables import print_estimate, print_json, print_reasons, print_verdicts
    from shortcutscope.facade import audit as run_audit
    from shortcutscope.options import Recording
    from shortcutscope.report.html import compared
    from shortcutscope.scan.choice import from_stored
    from shortcutscope.scan.plan import Scanning

    if quiet + verbose + as_json > 1:
        raise InputError("--quiet, --verbose and --json exclude each other: give one of them")
    if train_data and trained_on_these:
        raise InputError(
            "--train-data names other samples than DATA, --trained-on-these says they are the same"
        )
    compared(out)  # the report shows it: one that is damaged is refused before anything is written
    require_auroc(expected_auroc)
    reading = resolved(reading, model, making.weights)
    table = with_roles(open_table(data, reading), train_split, audit_split)
    train = open_training_columns(train_data, reading, table, train_split) if train_data else None
    loaded = open_model(model, making, trained=True)
    train_known = TrainingData(train, trained_on=trained_on_these, expected_auroc=expected_auroc)
    scanning = Scanning(
        layer_choice(layers),
        target_choice(target),
        from_stored(attribution),
        strict=strict,
        measure=measure,
        texts=text_naming(text_model, texts),
    )
    scores = replace(head_of(head), task=cast(Any, task))  # one of four words: looked up by the head
    chosen, meant = concept_choice(concepts), present_choice(present)
    counting, how = statistics.group(positive), running.group(on_unreadable)
    how = replace(how, progress=how.progress and not (quiet or as_json))
    console = Console(quiet=quiet or as_json or not is_main())
    if dry_run:
        cost = estimate_audit(
            loaded,
            table,
            request=ConceptRequest(chosen, meant or {}, discover),
            train=train_known,
            head=scores,
            scanning=scanning,
            statistics=counting,
            running=how,
        )
        print_estimate(console, cost)
        return
    done = run_audit(
        loaded,
        table,
        out,
        concepts=chosen,
        present=meant,
        discover=discover,
        train=train_known,
        head=scores,
        scanning=scanning,
        statistics=counting,
        running=how,
        record=Recording(keep_paths, model, shlex.join(["shortcutscope", *context.obj]), name),
    )
    if not is_main():  # of several processes the first one writes and shows
        return
    roles = {"train_split": train_split, "audit_split": audit_split, "train_data": train_data}
    remember(out, model, making, data, reading, **roles)
    for name, one in done.outputs.items():
        remember(one.path, model, making, data, replace(reading, only_label=name), **roles)
    write_config(out, kept_options(context, data, making))
    written = done.report(progress=how.progress)
    print_verdicts(console, done, written)
    if verbose:
        print_reasons(console, done)
    if as_json:
        print_json(done, written)
    if done.shortcuts:
        raise FoundShortcutsError
    if done.undecided:
        raise NotDecidedError


def text_naming(folder: Path | None, texts: str | None) -> TextNaming | None:
    """The texts to name findings by; None where no model was given.

    Raises
    ------
    InputError
        Texts without a model that reads them, and a folder that holds none.
    """
    from shortcutscope.models.texts import TEXTS, TextNaming

    if folder is None:
        if texts is not None:
            raise InputError("--texts needs a model that reads them: give its folder with --text-model")
        return None
    chosen = TEXTS if texts is None else [text.strip() for text in texts.split(",") if text.strip()]
    return TextNaming.open(folder, chosen)
