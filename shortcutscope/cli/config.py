"""Options in a TOML file: ``shortcutscope audit --config audit.toml``, as every run writes one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from shortcutscope.errors import InputError

#: What a run writes; every later audit may start from it.
FILE = "audit.toml"
#: Never kept: what a run is called, and what only shows it.
LEFT_OUT = ("context", "config", "out", "dry_run", "quiet", "verbose", "as_json")
_HEAD = "# Options of `shortcutscope audit`: run it again with --config {}, and --out for another folder.\n"


def take_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take what was not typed from a file; called by the parser before it reads the other options.

    Raises
    ------
    InputError
        For a file that is not there or no TOML, and an option that there is not.
    """
    if path is not None:
        context.default_map = {**(context.default_map or {}), **read_config(path, _multiple(context))}
    return path


def _multiple(context: typer.Context) -> dict[str, bool]:
    """Names of the command's options, with whether each is given again for each value."""
    return {
        str(parameter.name): bool(getattr(parameter, "multiple", False))
        for parameter in context.command.params
        if parameter.name not in LEFT_OUT or parameter.name == "out"
    }


def read_config(path: Path, options: Mapping[str, bool]) -> dict[str, Any]:
    """Options of a TOML file, as a command line would have them.

    Parameters
    ----------
    path
        Of the file; paths in it are relative to where the command runs.
    options
        Those that there are, with whether each takes several values.
    """
    import tomllib

    from shortcutscope.disk import explained

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(explained(error)) from error
    except ValueError as error:
        raise InputError(f"{path} is no TOML: {error}") from error
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in options:
            raise InputError(
                f"{path} has {key!r}, which is no option; there are {', '.join(sorted(options))}"
            )
        values[name] = _given(value, options[name])
    return values


def _given(value: Any, several: bool) -> Any:
    """A table as NAME=VALUE words; a list as it is where the option takes several, else joined by commas."""
    if isinstance(value, Mapping):
        value = [f"{key}={entry}" for key, entry in value.items()]
    if isinstance(value, list):
        # Two numbers, as of a range, stay numbers.
        if several or all(isinstance(entry, int | float) for entry in value):
            return value
        return ",".join(map(str, value))
    return value


def write_config(folder: Path, options: Mapping[str, Any]) -> Path:
    """Keep the options that a command was called with, those that are not at None, in its run.

    Parameters
    ----------
    folder
        Of the run.
    options
        By name; paths are written as they are on this machine.
    """
    from shortcutscope.files import write_atomically

    lines = [
        f"{name} = {_toml(value)}"
        for name, value in options.items()
        if name not in LEFT_OUT and value is not None and value != []
    ]
    content = (_HEAD.format(FILE) + "\n".join(lines) + "\n").encode()
    path = folder / FILE
    write_atomically(path, lambda file: file.write(content))
    return path


def _toml(value: Any) -> str:
    import json

    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # A JSON string is a TOML string, but for DEL, which no option has.
    return repr(value) if isinstance(value, int | float) else json.dumps(str(value))
