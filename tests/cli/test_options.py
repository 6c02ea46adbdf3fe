"""A command's dataclasses are shown to typer as options, and made of what is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from shortcutscope.cli.options import DataOptions, ModelOptions, expanded


@dataclass(frozen=True)
class Frame:
    width: Annotated[int, typer.Option(help="Across.")]
    height: Annotated[int, typer.Option(help="Upwards.")] = 3


def command() -> tuple[typer.Typer, list[tuple[str, Frame, int]]]:
    seen: list[tuple[str, Frame, int]] = []

    @expanded
    def draw(*, name: str, frame: Frame, seed: int = 0) -> None:
        """Draw."""
        seen.append((name, frame, seed))

    app = typer.Typer()
    app.command()(draw)
    return app, seen


def test_fields_become_options_with_their_defaults() -> None:
    app, seen = command()
    outcome = CliRunner().invoke(app, ["picture", "--width", "4", "--seed", "2"])
    assert outcome.exit_code == 0, outcome.output
    assert seen == [("picture", Frame(4, 3), 2)]


def test_a_field_without_default_is_required() -> None:
    app, seen = command()
    assert CliRunner().invoke(app, ["picture"]).exit_code == 2
    assert seen == []


def test_the_shared_options_have_defaults() -> None:
    assert DataOptions().value_range is None
    assert ModelOptions().trust is False
