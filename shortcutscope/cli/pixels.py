"""``shortcutscope pixels``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from shortcutscope.cli.options import DataOptions, ModelOfRun, ModelOptions, ReadingOptions, expanded
from shortcutscope.cli.origin import origin_of

_PIXELS = "Pixels"


@expanded
def pixels(
    *,
    run: Annotated[Path, typer.Argument(help="Run directory of an audit.")],
    finding: Annotated[str, typer.Argument(help="Name of a finding of that run.")],
    model: ModelOfRun = None,
    data: Annotated[Path | None, typer.Option(help="DATA of the audit; default: what the run knows.")] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of masks; by default masks/FINDING in the run, if it is there."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the result; by default pixels in the run.")
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(help="Also write the images before and after, and a manifest, into this folder."),
    ] = None,
    making: ModelOptions,
    way: Annotated[
        str,
        typer.Option(
            help="erase (needs masks), transfer, or auto: erase where there are masks.",
            rich_help_panel=_PIXELS,
        ),
    ] = "auto",
    fill: Annotated[
        str, typer.Option(help="Of masks: convolution, similar or inpaint.", rich_help_panel=_PIXELS)
    ] = "convolution",
    transfer: Annotated[
        str | None,
        typer.Option(
            help="Such as exposure, noise or frame; default: the best of all.", rich_help_panel=_PIXELS
        ),
    ] = None,
    per_label: Annotated[
        int, typer.Option(help="Most images of each label and side.", rich_help_panel=_PIXELS)
    ] = 120,
    reading: DataOptions,
    running: ReadingOptions,
    bootstrap: Annotated[int, typer.Option(help="Resamples of the patients.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of draws and resamples.")] = 0,
) -> None:
    """Take a finding out of the images and put it into others: does the output follow?"""
    from shortcutscope.facade import Audit
    from shortcutscope.options import Statistics
    from shortcutscope.pixels.options import Intervening

    console = Console()
    intervening = Intervening(cast(Any, way), fill, transfer, per_label)
    record = Audit.open(run).finding(finding)
    origin = origin_of(run, model, making, data, reading)
    test = record.intervene(
        origin.network(),
        origin.table(),
        masks=masks,
        out=out,
        intervening=intervening,
        statistics=Statistics(n_bootstrap=bootstrap, seed=seed),
        running=running.reading(),
        pairs=pairs,
    )
    console.print(str(test), markup=False, highlight=False)
    if out is None:
        audit = Audit.open(run)
        said = f"{finding}: {audit.finding(finding).statement}; the audit: {audit.conclusion.outcome}"
        console.print(said, style="bold", markup=False, highlight=False)
        console.print(f"report:  {audit.report()}", markup=False, highlight=False, soft_wrap=True)
