"""Options that several commands share: which model, and how DATA is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

COLUMNS, IMAGES, MODEL = "Columns of a manifest", "Images", "Model"

Weights = Annotated[Path | None, typer.Option(help="Safetensors file or checkpoint.", rich_help_panel=MODEL)]
NumClasses = Annotated[int | None, typer.Option(help="Number of logits.", rich_help_panel=MODEL)]
ModelKwargs = Annotated[
    str | None, typer.Option(help="JSON object of arguments of the factory.", rich_help_panel=MODEL)
]
Trust = Annotated[
    bool, typer.Option(help="Load a checkpoint that can run code (pickle).", rich_help_panel=MODEL)
]
ImageColumn = Annotated[str, typer.Option(help="Image file.", rich_help_panel=COLUMNS)]
LabelColumn = Annotated[str, typer.Option(help="Class.", rich_help_panel=COLUMNS)]
GroupColumn = Annotated[
    str | None, typer.Option(help="Patient; default: column group.", rich_help_panel=COLUMNS)
]
SplitColumn = Annotated[
    str | None, typer.Option(help="Split; default: column split.", rich_help_panel=COLUMNS)
]
SampleIdColumn = Annotated[
    str | None, typer.Option(help="Unique id; default: column sample_id.", rich_help_panel=COLUMNS)
]
Root = Annotated[
    Path | None,
    typer.Option(help="Folder of the image files; default: DATA's.", rich_help_panel=COLUMNS),
]
Size = Annotated[int | None, typer.Option(help="Resample to this side.", rich_help_panel=IMAGES)]
Mode = Annotated[str | None, typer.Option(help="L or RGB.", rich_help_panel=IMAGES)]
ValueRange = Annotated[
    tuple[float, float], typer.Option(help="Lowest and highest value.", rich_help_panel=IMAGES)
]
Mean = Annotated[str | None, typer.Option(help="Mean, one or per channel.", rich_help_panel=IMAGES)]
Std = Annotated[str | None, typer.Option(help="Deviation, one or per channel.", rich_help_panel=IMAGES)]
