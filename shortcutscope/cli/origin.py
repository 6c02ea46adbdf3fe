"""What a run was made from on this machine, so that later commands need to be told only what differs.

It lies in a file of its own, since it has the paths of this machine, which no report and no export shows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from shortcutscope.cli.inputs import (
    MANIFESTS,
    OF_MANIFESTS,
    open_model,
    open_table,
    published,
    resolved,
    with_roles,
)
from shortcutscope.cli.options import DataOptions, ModelOptions
from shortcutscope.cli.running import typed
from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from shortcutscope.data.table import ImageTable

FILE = "origin.json"

_Bundle = TypeVar("_Bundle", ModelOptions, DataOptions)


@dataclass(frozen=True)
class Origin:
    """MODEL and DATA of a command: what was typed, and else what the run was made from.

    Attributes
    ----------
    run
        Run directory.
    model, making, data, reading
        As a command has them; None where neither was typed nor is known.
    train_split, audit_split, train_data
        As in the audit; None where DATA is another than the run's.
    """

    run: Path
    model: str | None
    making: ModelOptions
    data: str | None
    reading: DataOptions
    train_split: str | None = None
    audit_split: str | None = None
    train_data: str | None = None

    def network(self) -> nn.Module:
        """Load MODEL.

        Raises
        ------
        InputError
            When it was not typed and the run does not know it, and as `open_model`.
        """
        if self.model is None:
            raise InputError(f"{self.run} was audited from Python and knows no MODEL by name: give --model")
        return open_model(self.model, self.making)

    def table(self) -> ImageTable:
        """Open DATA, its rows in the roles that they had in the audit.

        Raises
        ------
        InputError
            When it was not typed and the run does not know it, or it is not there any more, and as
            `open_table`.
        """
        if self.data is None:
            raise InputError(f"{self.run} was audited from Python and knows no DATA by name: give --data")
        path = Path(self.data.partition(":")[2] if _kind(self.data) == _DATA_SET else self.data)
        if not path.exists():
            raise InputError(f"the DATA of {self.run} was {path}, which is not there any more: give --data")
        return with_roles(open_table(self.data, self.reading), self.train_split, self.audit_split)


def remember(
    run: Path, model: str, making: ModelOptions, data: Path, reading: DataOptions, **more: Any
) -> None:
    """Keep what an audit was made from."""
    from shortcutscope.files import write_json

    told = {
        "model": model,
        "making": asdict(replace(making, weights=_absolute_weights(making.weights))),
        "data": _absolute_data(data),
        "reading": asdict(replace(reading, root=_absolute(reading.root))),
        **{name: str(_absolute(value)) if isinstance(value, Path) else value for name, value in more.items()},
    }
    write_json(run / FILE, told)


def kept_options(context: typer.Context, data: Path, making: ModelOptions) -> dict[str, Any]:
    """What was typed, or came from a file, of a command's options, with paths that hold from anywhere."""
    options = {str(name): value for name, value in context.params.items() if typed(str(name))}
    options["data"] = _absolute_data(data)
    if making.weights is not None:
        options["weights"] = _absolute_weights(making.weights)
    return {name: _absolute(value) if isinstance(value, Path) else value for name, value in options.items()}


def origin_of(
    run: Path, model: str | None, making: ModelOptions, data: Path | None, reading: DataOptions
) -> Origin:
    """What was typed, completed by what the run was made from.

    Of another MODEL, weights and arguments are not taken over; of another DATA its columns are where it is of
    the same kind, and how images are read is in any case: it is checked against what was audited. Another
    manifest's images are looked for beside it, then below the root of the run's.

    Raises
    ------
    InputError
        When what the run knows cannot be read.
    """
    from shortcutscope.disk import intact
    from shortcutscope.files import read_object

    path = run / FILE
    typed_data = None if data is None else str(data)
    if not path.exists():
        if model is not None:
            reading = resolved(reading, model, making.weights)
        return Origin(run, model, making, typed_data, reading)
    kept = read_object(path)
    with intact(path, "what a run was made from", "delete it, and give --model and --data"):
        own_model = model in (None, kept["model"])
        own_data = data is None or _absolute_data(data) == kept["data"]
        same_kind = own_data or _kind(str(typed_data)) == _kind(kept["data"])
        left = () if own_data else ("root", "data_options", *(() if same_kind else OF_MANIFESTS))
        more = {name: kept.get(name) for name in ("train_split", "audit_split", "train_data")}
        made = _completed(making, kept["making"]) if own_model else making
        read = _completed(reading, {k: v for k, v in kept["reading"].items() if k not in left})
        if not own_data and same_kind and not typed("root"):
            read = _below_known_root(read, Path(str(typed_data)), kept["reading"].get("root"))
    spec = model or kept["model"]
    read = resolved(read, spec, made.weights)
    return Origin(run, spec, made, typed_data or kept["data"], read, **(more if own_data else {}))


def _below_known_root(reading: DataOptions, manifest: Path, root: str | None) -> DataOptions:
    """Another manifest's images below the run's root, where they do not lie beside the manifest."""
    if root is None or manifest.suffix.lower() not in MANIFESTS or not manifest.exists():
        return reading
    from shortcutscope.data.manifests.manifest import read_manifest

    frame = read_manifest(manifest, [reading.image])
    if reading.image not in frame.columns or not len(frame):
        return reading
    first = str(frame[reading.image].iloc[0])
    beside, below = (folder / first for folder in (manifest.parent, Path(root)))
    return replace(reading, root=Path(root)) if below.exists() and not beside.exists() else reading


def _completed(given: _Bundle, kept: dict[str, Any]) -> _Bundle:
    """Options, those that were not typed as they are kept."""
    changes: dict[str, Any] = {}
    for field in fields(given):
        if field.name in kept and not typed(field.name):
            value = kept[field.name]
            if value is not None and field.name in ("weights", "root"):
                value = Path(value)
            changes[field.name] = tuple(value) if field.name == "value_range" and value else value
    return replace(given, **changes)


_DATA_SET = "data set"


def _kind(data: str) -> str:
    from shortcutscope.data.medical import DATASETS

    name, colon, _ = data.partition(":")
    if colon and name in DATASETS:
        return _DATA_SET
    path = Path(data)
    return "manifest" if path.suffix.lower() in MANIFESTS else path.suffix.lower()


def _absolute_data(data: Path) -> str:
    name, _, root = str(data).partition(":")
    if _kind(str(data)) == _DATA_SET:
        return f"{name}:{Path(root).expanduser().absolute()}"
    return str(data.absolute())


def _absolute_weights(weights: Path | None) -> Path | None:
    return weights if published(weights) else _absolute(weights)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
