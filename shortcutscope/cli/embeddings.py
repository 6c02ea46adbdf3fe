"""``shortcutscope embeddings``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from shortcutscope.cli.inputs import concept_choice, present_choice
from shortcutscope.cli.options import COLUMNS, Present, StatisticsOptions, expanded
from shortcutscope.cli.running import FoundShortcutsError, NotDecidedError
from shortcutscope.errors import InputError

_ENCODERS = "Encoders"


@expanded
def embeddings(
    *,
    features: Annotated[
        str, typer.Argument(help="npz, Parquet or npy file of features (N, d), or NAME=FILE.")
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="CSV, TSV or Parquet table of labels, patients and columns. Default: what FEATURES holds."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for embeddings.json and report.html.")],
    concepts: Annotated[
        str | None, typer.Option(help="Columns to test, comma-separated. Default: all that can be one.")
    ] = None,
    present: Present = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="A further encoder; again for each.", rich_help_panel=_ENCODERS
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]FILE",
            help="npz of a linear head: weight (K, d) and bias (K). Default: one is fitted here.",
            rich_help_panel=_ENCODERS,
        ),
    ] = None,
    corrections: Annotated[
        str | None,
        typer.Option(
            help="Of leace, mean shift, location and scale, comma-separated; none for no before and after.",
            rich_help_panel=_ENCODERS,
        ),
    ] = None,
    neighbours: Annotated[
        int, typer.Option(help="Of the robustness index.", min=1, rich_help_panel=_ENCODERS)
    ] = 10,
    label: Annotated[str, typer.Option(help="Class.", rich_help_panel=COLUMNS)] = "label",
    group: Annotated[
        str | None, typer.Option(help="Patient; default: column group.", rich_help_panel=COLUMNS)
    ] = None,
    sample_id: Annotated[
        str | None, typer.Option(help="Unique id; default: column sample_id.", rich_help_panel=COLUMNS)
    ] = None,
    train_data: Annotated[
        Path | None, typer.Option(help="Table of the training samples.", rich_help_panel=COLUMNS)
    ] = None,
    trained_on_these: Annotated[
        bool, typer.Option("--trained-on-these", help="The head saw these samples.", rich_help_panel=COLUMNS)
    ] = False,
    positive: Annotated[int | None, typer.Option(help="Class that effects refer to.")] = None,
    statistics: StatisticsOptions,
) -> None:
    """Audit features of encoders for shortcuts, without images. Exit code 2: found some, 3: not decided."""
    from shortcutscope.audit.audited_data import TrainingData
    from shortcutscope.cli.tables import print_embeddings
    from shortcutscope.embeddings.result import FILE
    from shortcutscope.embeddings.stages import Correcting
    from shortcutscope.facade import audit_embeddings

    if train_data is not None and trained_on_these:
        raise InputError("--train-data names other samples, --trained-on-these says that they are the same")
    _require_folder(out, FILE)
    encoders = _named([features, *(beside or [])], "--beside")
    if (
        head is not None
        and len(encoders) == 1
        and len(head) == 1
        and _named(head, "--head").keys() != encoders.keys()
    ):
        heads: object = head[0]
    else:
        heads = None if head is None else _named(head, "--head")
    correcting = (
        Correcting(k=neighbours) if corrections is None else Correcting(_methods(corrections), neighbours)
    )
    done = audit_embeddings(
        encoders,
        data,
        label=label,
        sample_id=sample_id,
        group=group,
        concepts=concept_choice(concepts),
        present=present_choice(present),
        train=TrainingData(trained_on=True) if trained_on_these else train_data,
        head=heads,
        statistics=statistics.group(positive),
        correcting=correcting,
    )
    done.save(out)
    print_embeddings(Console(), done, done.report(out / "report.html"))
    if done.shortcuts:
        raise FoundShortcutsError
    if done.undecided:
        raise NotDecidedError


def _require_folder(out: Path, file: str) -> None:
    """Refuse a folder that holds something else, before anything is measured."""
    from shortcutscope.disk import require_writable

    if out.is_dir() and not (out / file).exists() and any(not p.name.startswith(".") for p in out.iterdir()):
        raise InputError(
            f"--out {out} is not empty and holds no {file}: give a new folder, or one of a former run"
        )
    if out.is_file():
        raise InputError(f"--out {out} is a file: give a folder")
    require_writable(out)


def _named(texts: list[str], option: str) -> dict[str, str]:
    """Files by name: ``NAME=FILE``, or the file's own name."""
    files: dict[str, str] = {}
    for text in texts:
        name, sign, file = text.partition("=")
        if not sign or Path(text).exists():
            name, file = Path(text).stem, text
        if not name or not file:
            raise InputError(f"{option} {text!r}: give NAME=FILE, such as {option} uni=uni.npz")
        if name in files:
            raise InputError(f"two encoders are called {name!r}: name them, such as {option} other={file}")
        files[name] = file
    return files


def _methods(text: str) -> list[str]:
    return [] if text.strip() == "none" else [name.strip() for name in text.split(",") if name.strip()]
