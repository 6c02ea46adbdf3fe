"""``shortcutscope annotate``."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from shortcutscope.cli.exporting import NAMES, format_of, takes_sources, write_masks
from shortcutscope.cli.marking import MarkReading, marks_of
from shortcutscope.cli.options import (
    DataOptions,
    KeepPaths,
    ModelOfRun,
    ModelOptions,
    ReadingOptions,
    expanded,
    one_of,
)
from shortcutscope.cli.origin import origin_of
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError
from shortcutscope.files import write_atomically

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable
    from shortcutscope.masks.maskset import MaskSet

_MASKS = "Masks"
#: Of a picture of masks.
_DPI = 150


@expanded
def annotate(
    *,
    run: Annotated[Path, typer.Argument(help="Run directory of an audit.")],
    finding: Annotated[
        str, typer.Argument(help="Name of a localized finding of that run, or with --marks a new one.")
    ],
    model: ModelOfRun = None,
    data: Annotated[Path | None, typer.Option(help="DATA of the audit; default: what the run knows.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the masks; by default masks/FINDING in the run.")
    ] = None,
    making: ModelOptions,
    marks: Annotated[
        Path | None,
        typer.Option(
            help="Marks, with x0, y0, x1, y1 (pixels of the file) on about ten images: CSV, TSV or Parquet; "
            "COCO JSON, CVAT XML, or a folder of LabelMe.",
            rich_help_panel=_MASKS,
        ),
    ] = None,
    marks_column: Annotated[
        str | None,
        typer.Option(
            help="Column of the answers; default: mark, value, answer, review or tags.",
            rich_help_panel=_MASKS,
        ),
    ] = None,
    carrier: Annotated[
        str | None,
        typer.Option(help="Word, tag or label that means 'carries it'.", rich_help_panel=_MASKS),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="clarc is the plain recipe.", rich_help_panel=_MASKS, **one_of("fusion", "clarc")),
    ] = "fusion",
    threshold: Annotated[
        str,
        typer.Option(help="otsu, quantile, or a share of the map's range.", rich_help_panel=_MASKS),
    ] = "otsu",
    heat: Annotated[
        bool, typer.Option("--heat", help="Keep heat maps, too.", rich_help_panel=_MASKS)
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Also write the masks for another tool.", rich_help_panel=_MASKS)
    ] = None,
    export_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Format of --export; default: by its name, else coco.",
            rich_help_panel=_MASKS,
            **one_of(*NAMES),
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="PNG file to write: 24 images with the outline of their mask, the surest first.",
            rich_help_panel=_MASKS,
        ),
    ] = None,
    keep_paths: KeepPaths = False,
    reading: DataOptions,
    running: ReadingOptions,
    seed: Annotated[int, typer.Option(help="Seed of folds and draws.")] = 0,
) -> None:
    """Draw a mask of a localized finding, or of what was boxed, on every image that carries it."""
    from shortcutscope.masks.boxed.held_out import HeldOutFigures
    from shortcutscope.masks.learning import Drawing
    from shortcutscope.masks.named import annotate_named, require_named
    from shortcutscope.review.order import review_order

    drawing = Drawing(cast(Any, method), cast(Any, threshold_choice(threshold)), seed=seed)
    # A mask lies in the space of its image's file where the format knows of one; refused before the work.
    file_format = export_format
    if export is not None:
        file_format = export_format or (format_of(export) if export.suffix else "coco")
        require_writable(export.parent)
    if file_format is not None:
        takes_sources(file_format)
    if picture is not None:
        if picture.suffix.lower() != ".png":
            raise InputError(f"--picture {str(picture)!r} must end in .png")
        require_writable(picture.parent)
    require_named(run, finding, marked=marks is not None)
    origin = origin_of(run, model, making, data, reading)
    loaded, table = origin.network(), origin.table()
    answers = None
    if marks is not None:
        answers = marks_of(marks, run, table.files, MarkReading(marks_column, carrier))
    masks = annotate_named(
        run,
        finding,
        loaded,
        table,
        marks=answers,
        out=out,
        drawing=drawing,
        heat=heat,
        keep_paths=keep_paths,
        running=running.reading(),
    )
    files = table.files
    console = Console()
    console.print(str(masks), markup=False, highlight=False)
    if (checked := HeldOutFigures.open(masks.folder)) is not None:
        console.print(str(checked), markup=False, highlight=False)
    flagged = review_order(masks)
    if flagged:
        shown = [files.get(name, name) if keep_paths else name for name in flagged[:10]]
        first = ", ".join(shown) + (", ..." if len(flagged) > 10 else "")
        console.print(f"look at first: {first}", markup=False, highlight=False)
    console.print(f"masks: {masks.folder}", markup=False, highlight=False, soft_wrap=True)
    if export is not None:
        export_path = write_masks(masks, str(file_format), export, table)
        console.print(f"{file_format}: {export_path}", markup=False, highlight=False, soft_wrap=True)
        if any(entry.image != files.get(entry.sample_id, entry.image) for entry in masks.entries):
            sentence = (
                "its images go by their sample ids; draw masks anew with --keep-paths for their files' names"
            )
            console.print(sentence, markup=False, highlight=False)
    if picture is not None:
        console.print(_picture_of(masks, table, picture), markup=False, highlight=False, soft_wrap=True)


def _picture_of(masks: MaskSet, table: ImageTable, path: Path) -> str:
    """Draw some masks over their images; where that is, in words."""
    from shortcutscope.report.overlay import draw_overlays

    if all(entry.empty for entry in masks.entries):
        return f"picture: there is no mask to show, so {path} was not written"
    buffer = BytesIO()
    draw_overlays(masks, table).savefig(buffer, format="png", dpi=_DPI)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))
    return f"picture: {path}"


def threshold_choice(text: str) -> str | float:
    """``otsu``, ``quantile`` or a number.

    Raises
    ------
    InputError
        For anything else.
    """
    if text in ("otsu", "quantile"):
        return text
    from shortcutscope.masks.thresholds import check_threshold

    try:
        share = float(text)
        check_threshold(share)
    except ValueError as error:  # as an InputError is
        raise InputError(
            f"--threshold {text!r} is not allowed; give otsu, quantile or a number between 0 and 1"
        ) from error
    return share
