"""The commands beside ``audit``: demo, layers, report and doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from shortcutscope.cli.options import ModelOptions, expanded
from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the images, the model and the run.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
) -> None:
    """Plant shortcuts in made-up radiographs, train, audit, draw masks, and unlearn one. No data needed."""
    from shortcutscope.cli.demonstration import run_demo

    run_demo(out, seed=seed, console=Console())


@expanded
def layers(
    *,
    model: Annotated[str, typer.Argument(help="torchvision:NAME, timm:NAME or package.module:factory.")],
    choice: Annotated[str, typer.Option("--layers", help="blocks, all, or names and patterns.")] = "blocks",
    making: ModelOptions,
    shape: Annotated[
        str | None, typer.Option(help="Input without the batch axis, such as 3,224,224. Default: 224 pixels.")
    ] = None,
) -> None:
    """List the layers of a model that an audit would scan."""
    import torch

    from shortcutscope.cli.inputs import layer_choice, open_model
    from shortcutscope.cli.tables import print_layers
    from shortcutscope.models.layers import find_layers

    loaded = open_model(model, making)
    example = torch.zeros(2, *_input_shape(loaded, shape))
    print_layers(Console(), find_layers(loaded, example, layer_choice(choice)))


def report(
    run: Annotated[Path, typer.Argument(help="Run directory of an audit.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; by default report.html in the run.")] = None,
) -> None:
    """Write the report of a finished audit again."""
    from shortcutscope.facade import Audit

    typer.echo(Audit.open(run).report(out))


def doctor() -> None:
    """Show versions, devices and which optional extras are installed."""
    from shortcutscope.cli.environment import describe
    from shortcutscope.cli.tables import print_environment

    print_environment(Console(), describe())


def _input_shape(model: nn.Module, text: str | None) -> tuple[int, ...]:
    """Shape that was asked for, or 224 pixels with the channels of the first convolution."""
    if text is not None:
        try:
            shape = tuple(int(part) for part in text.split(","))
        except ValueError as error:
            raise InputError(f"--shape {text!r} is not a shape; for example 3,224,224") from error
        if not shape or min(shape) < 1:
            raise InputError(f"--shape {text!r} is not a shape; for example 3,224,224")
        return shape
    for parameter in model.parameters():
        if parameter.ndim == 4:
            return (int(parameter.shape[1]), 224, 224)
    raise InputError(
        "the model has no 2-D convolution to tell its input from; give --shape, such as 3,224,224"
    )
