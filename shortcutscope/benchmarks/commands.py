"""``shortcutscope bench`` and ``shortcutscope reproduce``."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from shortcutscope.errors import InputError

SUITES = (
    "scan", "audit", "device", "attribution", "faithfulness", "extent", "nulls", "bystanders", "retrieval",
    "discovery", "circuits", "masks", "pixels", "geometry", "debias", "distillation", "columns", "labels",
    "wrong_labels", "embeddings", "names", "selection", "unseen",
)  # fmt: skip
#: Those that have a version with pretrained networks of full width.
OF_PRETRAINED = ("debias", "distillation")
PROTOCOLS = ("boland", "pahde", "spurbreast", "saab", "simba", "squares")


def bench(
    suite: Annotated[str, typer.Argument(help=f"{', '.join(SUITES)}.")],
    quick: Annotated[bool, typer.Option("--quick", help="The small version, within 3 minutes.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="The long version, where there is one: hours.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Folder with pneumoniamnist.npz.", envvar="SHORTCUTSCOPE_DATA")
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            "--pretrained", help="Of debias, distillation: from pretrained networks of full width. Hours."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="PNG file to draw the result to (debias, distillation).")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes; default: one per core.", min=1)] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for models and finished cases; default: the user's cache.")
    ] = None,
) -> None:
    """Run a benchmark; one that was interrupted goes on where it stopped."""
    if suite not in SUITES:
        raise InputError(f"no suite {suite!r}; there are {', '.join(SUITES)}")
    if quick and full:
        raise InputError("--quick and --full exclude each other; leave both out for the default size")
    if pretrained and suite not in OF_PRETRAINED:
        raise InputError(
            f"--pretrained belongs to the suites {' and '.join(map(repr, OF_PRETRAINED))}, not to {suite!r}; "
            "leave it out"
        )
    if data is not None and not data.is_dir():
        raise InputError(f"--data {str(data)!r} is no folder; leave it out to run on phantoms alone")

    from shortcutscope.benchmarks.runner import Settings, run
    from shortcutscope.files import write_atomically
    from shortcutscope.machine import default_cache, default_jobs

    module = f"{suite}_pretrained" if pretrained else suite
    selected = importlib.import_module(f"shortcutscope.benchmarks.suites.{module}").SUITE
    if figure is not None and selected.draw is None:
        raise InputError(f"{suite} has no figure; leave --figure out")
    settings = Settings(
        quick=quick,
        seed=seed,
        data=data,
        cache=cache or default_cache(),
        jobs=jobs or default_jobs(),
        full=full,
    )
    result = run(selected, settings, json_file)
    if json_file:
        typer.echo(json_file)
    ran = [case for case in result["cases"] if case["error"] is None]
    if figure is not None and ran:
        plot = selected.draw(ran)
        write_atomically(figure, lambda file: plot.savefig(file, format="png", dpi=150))
        typer.echo(figure)
    if result["summary"]["n_failed"] == result["summary"]["n_cases"]:
        raise InputError(f"every case of {suite!r} failed; the table above has their errors")


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

    from shortcutscope.benchmarks.papers.protocol import reproduce as run_protocol
    from shortcutscope.benchmarks.runner import Settings
    from shortcutscope.machine import default_cache, default_jobs

    protocol = importlib.import_module(f"shortcutscope.benchmarks.papers.{name}").PROTOCOL
    settings = Settings(quick, seed, data, cache or default_cache(), jobs or default_jobs(), full)
    folder = out or Path("runs") / "reproduce" / name
    result = run_protocol(protocol, settings, folder)
    typer.echo(folder / "result.json")
    typer.echo(folder / "figure.png")
    if result["summary"]["n_failed"] == result["summary"]["n_cases"]:
        raise InputError(f"every case of {name!r} failed; the table above has their errors")
