"""``shortcutscope reproduce``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from shortcutscope.errors import InputError

PROTOCOLS = ("boland", "pahde", "spurbreast", "saab", "simba")


def reproduce(
    name: Annotated[str, typer.Argument(help=f"{', '.join(PROTOCOLS)}.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the paper's data; phantoms where it is left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for result.json and figure.png; default: runs/reproduce/NAME.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The small version, within minutes.")] = False,
    full: Annotated[bool, typer.Option("--full", help="The long version: hours.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    jobs: Annotated[int | None, typer.Option(help="Processes; default: one per core.", min=1)] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for models and finished cases; default: the user's cache.")
    ] = None,
) -> None:
    """Run a published experiment, and say which of the paper's claims hold here."""
    if name not in PROTOCOLS:
        raise InputError(f"no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    if quick and full:
        raise InputError("--quick and --full exclude each other; leave both out for the default size")
    if data is not None and not data.is_dir():
        raise InputError(f"--data {str(data)!r} is no folder; leave it out to run on phantoms")

    from shortcutscope.benchmarks.machine import default_jobs
    from shortcutscope.benchmarks.papers.protocol import reproduce as run_protocol
    from shortcutscope.benchmarks.records import default_cache
    from shortcutscope.benchmarks.runner import Settings

    protocol = importlib.import_module(f"shortcutscope.benchmarks.papers.{name}").PROTOCOL
    settings = Settings(quick, seed, data, cache or default_cache(), jobs or default_jobs(), full)
    folder = out or Path("runs") / "reproduce" / name
    result = run_protocol(protocol, settings, folder)
    typer.echo(folder / "result.json")
    typer.echo(folder / "figure.png")
    if result["summary"]["n_failed"] == result["summary"]["n_cases"]:
        raise InputError(f"every case of {name!r} failed; the table above has their errors")
