"""``shortcutscope amplify``: networks trained at growing correlations of a shortcut with the label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shortcutscope.cli.debiasing import held_out_rows, known_training_rows, training_rows
from shortcutscope.cli.inputs import open_table, present_choice
from shortcutscope.cli.options import (
    DataOptions,
    ModelOfRun,
    ModelOptions,
    Present,
    ReadingOptions,
    TrainingOptions,
    expanded,
)
from shortcutscope.cli.origin import origin_of
from shortcutscope.errors import InputError

_SAMPLES = "Samples"


@expanded
def amplify(
    *,
    run: Annotated[Path, typer.Argument(help="Run directory of an audit.")],
    model: ModelOfRun = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="DATA of training samples to draw from; default: those that the audit was told of.",
            rich_help_panel=_SAMPLES,
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(help="DATA to judge on; default: the audited samples.", rich_help_panel=_SAMPLES),
    ] = None,
    finding: Annotated[
        str | None, typer.Option(help="Concept whose correlation grows; default: the costliest shortcut.")
    ] = None,
    present: Present = None,
    correlations: Annotated[
        str, typer.Option(help="Shares of the class that carry it, comma-separated, from .5 to 1.")
    ] = ".5,.6,.7,.8,.9,1",
    training: TrainingOptions,
    making: ModelOptions,
    reading: DataOptions,
    running: ReadingOptions,
    seed: Annotated[int, typer.Option(help="Seed of weights, samples and draws.")] = 0,
) -> None:
    """Train at growing correlations of a shortcut with the label, and judge where it conflicts."""
    from shortcutscope.data.decoding.decoded import DecodedImages
    from shortcutscope.facade import Audit, amplification_curve
    from shortcutscope.options import Running, Statistics
    from shortcutscope.processes import own_device

    shares = shares_of(correlations)
    audit = Audit.open(run)
    origin = origin_of(run, model, making, data, reading)
    loaded = origin.network()
    loaded.to(training.device or own_device())
    how = running.reading()
    images = DecodedImages(how.cache, how.cache_gb)
    train = training_rows(origin.table()) if data is not None else known_training_rows(origin)
    judged = (
        origin_of(run, model, making, None, reading).table()
        if test is None
        else open_table(test, origin.reading)
    )
    if finding is None and not audit.shortcuts:
        raise InputError("the audit found no shortcut; say with --finding whose correlation is to grow")
    curve = amplification_curve(
        loaded,
        train.keeping(how, images),
        held_out_rows(judged).keeping(how, images),
        concept=audit.shortcuts[0] if finding is None else audit.finding(finding),
        present=present_choice(present),
        correlations=shares,
        training=training.group(how.workers, seed),
        head=audit.head,
        statistics=Statistics(seed=seed),
        running=Running(progress=how.progress),
        out=run,
    )
    console = Console()
    console.print(repr(curve), markup=False, highlight=False, soft_wrap=True)
    page = run / "amplification.png"
    curve.plot().savefig(page, dpi=150, bbox_inches="tight")
    console.print(f"figure: {page}", markup=False, highlight=False, soft_wrap=True)


def shares_of(text: str) -> list[float]:
    """Numbers from comma-separated words.

    Raises
    ------
    InputError
        For a word that is no number.
    """
    try:
        return [float(word) for word in text.split(",") if word.strip()]
    except ValueError as error:
        raise InputError(f"--correlations {text}: give shares from .5 to 1, such as .5,.75,1") from error
