"""``shortcutscope record`` and ``shortcutscope verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shortcutscope.cli.options import one_of
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError

FORMATS = ("junit", "cyclonedx", "modelcard", "huggingface", "fda", "methods", "markdown")


def record(
    run: Annotated[Path, typer.Argument(help="Run directory of an audit.")],
    formats: Annotated[
        list[str], typer.Option("--format", help="Format; again for each.", **one_of(*FORMATS))
    ],
    out: Annotated[
        list[Path] | None, typer.Option("--out", help="File of each format; default: the terminal.")
    ] = None,
) -> None:
    """Write what an audit found as a record for other tools: JUnit, CycloneDX, model cards, hazard lines."""
    from shortcutscope.facade import Audit

    files = out or []
    if files and len(files) != len(formats):
        raise InputError(f"{len(formats)} --format and {len(files)} --out: give a file for each format")
    for path in files:
        require_writable(path.parent)
    audit = Audit.open(run)
    for k, name in enumerate(formats):
        text = audit.record(name, files[k] if files else None)
        typer.echo(f"{name}: {files[k]}" if files else text)


def verify(
    run: Annotated[Path, typer.Argument(help="Run directory of an audit.")],
    sha256: Annotated[
        str | None, typer.Option(help="Digest of its SHA256SUMS, as a record of the run has it.")
    ] = None,
) -> None:
    """Say whether a run is as its audit left it; exit code 1 where it is not."""
    from shortcutscope.disk import checksum
    from shortcutscope.facade import Audit

    audit = Audit.open(run)
    changed = audit.changed_files(sha256)
    if changed:
        raise InputError(f"{run} is not as its audit left it:\n  " + "\n  ".join(changed))
    from shortcutscope.audit.seal import FILE

    typer.echo(f"{run} is as its audit left it\n{FILE}: {checksum(run / FILE)}")
