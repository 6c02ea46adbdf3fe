"""The page on the command line, made of what the commands say of themselves."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from shortcutscope.cli import COMMANDS, _app
from shortcutscope.cli.examples import EXAMPLES


def command_line_page() -> str:
    """Every command with its examples, arguments and options, as Markdown."""
    app: Any = get_command(_app(list(COMMANDS)))
    parts = ["# The command line", "", app.help, "", app.epilog or ""]
    for name in COMMANDS:
        command = app.commands[name]
        parts += [
            "",
            f"## {name}",
            "",
            _plain(command.help),
            "",
            "```bash",
            *EXAMPLES.get(name, []),
            "```",
            "",
        ]
        rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            parts += ["| | |", "| --- | --- |", *rows]
    return "\n".join(parts) + "\n"


def _row(parameter: Any) -> str:
    """A row of the table of options: its names, and what it does."""
    option = parameter.param_type_name == "option"
    name = ", ".join([*parameter.opts, *parameter.secondary_opts]) if option else parameter.name.upper()
    words = f" {parameter.metavar}" if parameter.metavar else ""
    default = parameter.default
    shown = f" Default: {default}." if isinstance(default, str | int | float) and default != "" else ""
    escaped = f"{name}{words}".replace("|", "\\|")
    return f"| `{escaped}` | {_plain(parameter.help or '')}{shown} |"


def _plain(text: str) -> str:
    """Help as text that Markdown leaves as it is."""
    flat = " ".join(text.split())
    for sign in "|<*[":
        flat = flat.replace(sign, f"\\{sign}")
    return flat
