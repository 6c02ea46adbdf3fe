"""``shortcutscope export``."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from shortcutscope.cli.options import one_of
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from shortcutscope.data.table import ImageTable
    from shortcutscope.masks.maskset import MaskSet

#: Formats by the ending of their file; the others are folders, or share an ending.
ENDINGS = {".json": "coco", ".xml": "cvat", ".npz": "npz", ".csv": "csv"}
#: Name of what a format writes, where only a folder was given.
_NAMES = {"coco": "coco.json", "cvat": "cvat.xml", "npz": "masks.npz", "csv": "intervals.csv"}
NAMES = ("png", "coco", "cvat", "labelme", "fiftyone", "nifti", "dicom-seg", "npz", "csv")


def export(
    masks: Annotated[Path, typer.Argument(help="Folder of masks, such as RUN/masks/NAME.")],
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "--out", help="File or folder to write; the format is told by its name. Again for each."
        ),
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Format; again for each.", **one_of(*NAMES))
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="DATA of the audit, for formats in the space of its files; default: the run's."),
    ] = None,
) -> None:
    """Write a run's masks for other tools, in several formats at once."""
    from shortcutscope.masks.maskset import MaskSet

    opened = MaskSet.open(masks)
    goals = goals_of(masks, out or [], formats or [])
    for _, path in goals:
        require_writable(path.parent)
    placed = [name for name, _ in goals if takes_sources(name)]
    table = _audited(masks, data) if placed else None
    console = Console()
    for name, path in goals:
        written = write_masks(opened, name, path, table)
        console.print(f"{name}: {written}", markup=False, highlight=False, soft_wrap=True)


def goals_of(masks: Path, out: list[Path], formats: list[str]) -> list[tuple[str, Path]]:
    """Formats and where each is written.

    Raises
    ------
    InputError
        When neither is given, a name does not tell its format, or a format is not known.

    Examples
    --------
    >>> goals_of(Path("run/masks/tag"), [Path("tag.json")], [])
    [('coco', PosixPath('tag.json'))]
    >>> goals_of(Path("run/masks/tag"), [], ["png", "coco"])[1]
    ('coco', PosixPath('run/masks/tag/export/coco.json'))
    """
    from shortcutscope.masks.formats import FORMATS

    for name in formats:
        FORMATS[name]  # unknown ones are named with those there are
    if not formats:
        if not out:
            raise InputError("give --format, --out, or both: there is nothing to write else")
        return [(format_of(path), path) for path in out]
    if len(out) == len(formats):
        return list(zip(formats, out, strict=True))
    if len(out) > 1:
        raise InputError(
            f"{len(out)} --out and {len(formats)} --format: give as many of both, or one folder for all"
        )
    folder = out[0] if out else masks / "export"
    return [(name, folder / _NAMES.get(name, name)) for name in formats]


def format_of(path: Path) -> str:
    """The format that the name of a file tells.

    Raises
    ------
    InputError
        For a name that tells none.
    """
    if path.suffix.lower() in ENDINGS:
        return ENDINGS[path.suffix.lower()]
    known = ", ".join(f"{ending} ({name})" for ending, name in ENDINGS.items())
    raise InputError(f"{path} does not tell its format: give --format, or a file that ends in {known}")


def takes_sources(name: str) -> bool:
    """Whether a format lies in the space of the images' own files, where these are known."""
    from shortcutscope.masks.formats import FORMATS

    return "sources" in signature(FORMATS[name].write).parameters


def write_masks(masks: MaskSet, name: str, path: Path, table: ImageTable | None) -> Path:
    """Export masks, in the space of a table's files where the format knows of one."""
    from shortcutscope.data.stored_frame import file_source

    options: dict[str, Any] = {}
    if takes_sources(name):
        has_files = table is not None and file_source(table.source) is not None
        options = {"sources": table if has_files else {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    return masks.export(path, name, **options)


def _audited(masks: Path, data: Path | None) -> ImageTable | None:
    """The audited table, where the run that the masks lie in knows it or it is given."""
    from shortcutscope.cli.options import DataOptions, ModelOptions
    from shortcutscope.cli.origin import FILE, origin_of

    run = masks.parent.parent
    if data is None and not (run / FILE).exists():
        return None
    return origin_of(run, None, ModelOptions(), data, DataOptions()).table()
