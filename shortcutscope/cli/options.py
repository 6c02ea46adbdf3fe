"""Options that several commands share, as dataclasses: which model, and how DATA is read.

A command takes them as one parameter each; `expanded` shows typer the fields instead.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

if TYPE_CHECKING:
    from shortcutscope.debias.options import Retraining
    from shortcutscope.options import Running, Statistics


def one_of(*words: str) -> dict[str, Any]:
    """What an option of few words shows in its help, and gives to a shell that completes it.

    The words themselves are looked up where all options are, so that Python says the same.

    Examples
    --------
    >>> one_of("fp32", "bf16")["metavar"]
    'fp32|bf16'
    """
    return {"metavar": "|".join(words), "autocompletion": lambda: list(words)}


COLUMNS, IMAGES, MODEL = "Columns of a manifest", "Images", "Model"
STATISTICS, RUNNING, TRAINING = "Statistics", "Running", "Training"
DATA_SET = "Data set, where DATA is NAME:ROOT"


@dataclass(frozen=True)
class ModelOptions:
    """How MODEL is made, beside its name."""

    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file or checkpoint.", rich_help_panel=MODEL)
    ] = None
    weights_key: Annotated[
        str | None,
        typer.Option(
            help="Which of several weights in a checkpoint, such as state_dict_ema.", rich_help_panel=MODEL
        ),
    ] = None
    num_classes: Annotated[int | None, typer.Option(help="Number of logits.", rich_help_panel=MODEL)] = None
    model_kwargs: Annotated[
        str | None, typer.Option(help="JSON object of arguments of the factory.", rich_help_panel=MODEL)
    ] = None
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Load a checkpoint that can run code (pickle).", rich_help_panel=MODEL),
    ] = False
    random_weights: Annotated[
        bool,
        typer.Option(
            "--random-weights", help="Audit a network without weights all the same.", rich_help_panel=MODEL
        ),
    ] = False


@dataclass(frozen=True)
class HeadOptions:
    """Which scores of the model are read."""

    output: Annotated[
        str | None,
        typer.Option(help="Name or position of the scores in what MODEL returns.", rich_help_panel=MODEL),
    ] = None
    label_output: Annotated[
        str | None,
        typer.Option(
            help="Of several outputs the one of the label, 0 or 1: position or name.", rich_help_panel=MODEL
        ),
    ] = None
    outputs: Annotated[
        str | None,
        typer.Option(
            help="Of several labels the outputs: label=position or name, comma-separated; default: by name.",
            rich_help_panel=MODEL,
        ),
    ] = None
    output_names: Annotated[
        str | None, typer.Option(help="Names of the outputs, in their order.", rich_help_panel=MODEL)
    ] = None
    link: Annotated[
        str,
        typer.Option(
            help="What MODEL makes of its logits; auto finds out.",
            rich_help_panel=MODEL,
            **one_of("auto", "identity", "sigmoid", "softmax"),
        ),
    ] = "auto"


@dataclass(frozen=True)
class DataOptions:
    """How DATA is read."""

    image: Annotated[str, typer.Option(help="Image file.", rich_help_panel=COLUMNS)] = "image"
    label: Annotated[
        str,
        typer.Option(
            help="Class; several columns of 0 and 1, comma-separated, for several labels a sample.",
            rich_help_panel=COLUMNS,
        ),
    ] = "label"
    labels_in_cells: Annotated[
        str | None,
        typer.Option(
            help="Each cell of --label lists findings (Effusion|Mass): those that are labels, "
            "comma-separated, or all.",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    uncertain: Annotated[
        str,
        typer.Option(
            help="Of several labels -1 or 'uncertain'; ignored ones are unknown.",
            rich_help_panel=COLUMNS,
            **one_of("ignore", "positive", "negative"),
        ),
    ] = "ignore"
    blank: Annotated[
        str,
        typer.Option(
            help="Of several labels an empty cell; ignored ones are unknown.",
            rich_help_panel=COLUMNS,
            **one_of("ignore", "negative"),
        ),
    ] = "ignore"
    only_label: Annotated[
        str | None,
        typer.Option(
            help="The one of several labels that this is about; default: that of the run.",
            rich_help_panel=COLUMNS,
        ),
    ] = None
    group: Annotated[
        str | None, typer.Option(help="Patient; default: column group.", rich_help_panel=COLUMNS)
    ] = None
    split: Annotated[
        str | None, typer.Option(help="Split; default: column split.", rich_help_panel=COLUMNS)
    ] = None
    sample_id: Annotated[
        str | None, typer.Option(help="Unique id; default: column sample_id.", rich_help_panel=COLUMNS)
    ] = None
    mask: Annotated[
        str | None,
        typer.Option(help="Annotation mask file; default: column mask.", rich_help_panel=COLUMNS),
    ] = None
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the image files; default: DATA's.", rich_help_panel=COLUMNS),
    ] = None
    missing: Annotated[
        str | None,
        typer.Option(
            help="Entries that mean missing, as empty cells do: NA,unknown.", rich_help_panel=COLUMNS
        ),
    ] = None
    classes: Annotated[
        str | None,
        typer.Option(help="Class names, in the order of the model's outputs.", rich_help_panel=COLUMNS),
    ] = None
    size: Annotated[int | None, typer.Option(help="Resample to this side.", rich_help_panel=IMAGES)] = None
    dims: Annotated[
        int | None,
        typer.Option(
            help="Axes beside that of channels of .npy files: 1 for signals, 3 for volumes; 2 by default.",
            rich_help_panel=IMAGES,
        ),
    ] = None
    mode: Annotated[
        str | None, typer.Option(help="Colours.", rich_help_panel=IMAGES, **one_of("L", "RGB"))
    ] = None
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Lowest and highest value; default: 0 1.", rich_help_panel=IMAGES),
    ] = None
    window: Annotated[
        str,
        typer.Option(
            help="Of DICOM files: file (the window that each names), bits (the full range of its bits), none "
            "(physical values), or centre and width, such as 40,400.",
            rich_help_panel=IMAGES,
        ),
    ] = "file"
    max_pixels: Annotated[
        int, typer.Option(help="Most values of one image.", min=1, rich_help_panel=IMAGES)
    ] = 2**28
    mean: Annotated[str | None, typer.Option(help="Mean, one or per channel.", rich_help_panel=IMAGES)] = None
    std: Annotated[
        str | None, typer.Option(help="Deviation, one or per channel.", rich_help_panel=IMAGES)
    ] = None
    preprocessing: Annotated[
        str,
        typer.Option(
            help="Read the images as a model's library does: own (MODEL's), none, or a model's name, such as "
            "timm:resnet18. Default: MODEL's, where its weights come with it.",
            rich_help_panel=IMAGES,
        ),
    ] = "auto"
    data_options: Annotated[
        list[str] | None,
        typer.Option(
            "--data-option",
            help="name=value, an argument of the data set's function; again for each.",
            rich_help_panel=DATA_SET,
        ),
    ] = None


@dataclass(frozen=True)
class StatisticsOptions:
    """What is drawn and counted."""

    permutations: Annotated[int, typer.Option(help="Permutations.", rich_help_panel=STATISTICS)] = 200
    bootstrap: Annotated[int, typer.Option(help="Resamples of the patients.", rich_help_panel=STATISTICS)] = (
        300
    )
    seed: Annotated[int, typer.Option(help="Seed of all that is random.", rich_help_panel=STATISTICS)] = 0
    operating: Annotated[
        str,
        typer.Option(
            help="Where subgroups call a sample positive: a probability, youden, or sensitivity=.9.",
            rich_help_panel=STATISTICS,
        ),
    ] = "0.5"

    def group(self, positive: int | None) -> Statistics:
        """The same as Python takes it."""
        from shortcutscope.options import Statistics

        return Statistics(self.permutations, self.bootstrap, self.seed, positive, self.operating)


@dataclass(frozen=True)
class ReadingOptions:
    """By whom images are read, and where they are kept."""

    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read images; default: by the cores.", rich_help_panel=RUNNING),
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps decoded images for later commands.", rich_help_panel=RUNNING),
    ] = None
    cache_gb: Annotated[float, typer.Option(help="Most gigabytes of it.", rich_help_panel=RUNNING)] = 50.0

    def reading(self) -> Running:
        """The same as Python takes it."""
        from shortcutscope.options import Running

        return Running(workers=self.workers, cache=self.cache, cache_gb=self.cache_gb)


@dataclass(frozen=True)
class RunningOptions(ReadingOptions):
    """Where and how images go through the network."""

    device: Annotated[
        str | None, typer.Option(help="Default: cuda where there is one.", rich_help_panel=RUNNING)
    ] = None
    batch_size: Annotated[int, typer.Option(help="Images per batch.", rich_help_panel=RUNNING)] = 64
    precision: Annotated[
        str, typer.Option(help="Of the network.", rich_help_panel=RUNNING, **one_of("fp32", "bf16"))
    ] = "fp32"

    def group(self, on_unreadable: str) -> Running:
        """The same as Python takes it."""
        return replace(
            self.reading(),
            device=self.device or default_device(),
            precision=self.precision,
            batch_size=self.batch_size,
            on_unreadable=cast(Any, on_unreadable),  # one of two words: looked up by the group
        )


def default_device() -> str | None:
    """The accelerator, of several processes each one's own, where there is one."""
    from shortcutscope.processes import own_device, started

    device = own_device()
    return None if device.type == "cpu" else str(device) if started() > 1 else device.type


@dataclass(frozen=True)
class TrainingOptions:
    """How networks are trained again."""

    start: Annotated[
        str,
        typer.Option(
            help="Where students begin: model (fine-tune it), or fresh (new weights).",
            rich_help_panel=TRAINING,
            **one_of("model", "fresh"),
        ),
    ] = "model"
    epochs: Annotated[float, typer.Option(help="Passes over the samples.", rich_help_panel=TRAINING)] = 5
    batch_size: Annotated[int, typer.Option(help="Samples per step.", rich_help_panel=TRAINING)] = 64
    lr: Annotated[
        float | None,
        typer.Option(
            help="Peak learning rate; default: 3e-4 from the model, 3e-3 from new ones (transformers: 3e-4).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    precision: Annotated[
        str,
        typer.Option(help="Of the steps.", rich_help_panel=TRAINING, **one_of("bf16", "fp16", "fp32")),
    ] = "bf16"
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, ...; default: cuda if there is one.", rich_help_panel=TRAINING),
    ] = None

    def group(self, workers: int | None, seed: int) -> Retraining:
        """The same as Python takes it."""
        from shortcutscope.debias.options import Retraining
        from shortcutscope.debias.training.settings import Training

        training = Training(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            precision=cast(Any, self.precision),  # one of three words: looked up by the group
            workers=workers or 0,
            seed=seed,
        )
        return Retraining(training, cast(Any, self.start))


#: The network of a run.
ModelOfRun = Annotated[
    str | None, typer.Option(help="MODEL of the audit; default: what the run knows.", rich_help_panel=MODEL)
]

#: Whether names of files may be written.
KeepPaths = Annotated[
    bool,
    typer.Option(
        "--keep-paths", help="Write the names of files; else samples go by ids that do not show them."
    ),
]

#: Which value of a column is the artifact, repeated for further columns.
Present = Annotated[
    list[str] | None,
    typer.Option(
        "--present",
        metavar="COLUMN=VALUE",
        help="The value that means that the artifact is there; again for each column.",
    ),
]


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Put the fields of a command's dataclasses in the place of its parameters that hold them.

    Typer reads a command's signature; the wrapper shows it one in which each keyword parameter of a dataclass
    is replaced by the dataclass's fields, and makes the dataclass of what is given.
    """
    hints = get_type_hints(command, include_extras=True)
    bundles: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    shown: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in bundles:
            shown += _parameters(bundles[parameter.name])
        else:
            shown.append(parameter.replace(annotation=hints[parameter.name]))

    @functools.wraps(command)
    def wrapper(*args: Any, **given: Any) -> None:
        for name, kind in bundles.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(*args, **given)

    wrapper.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return wrapper


def _parameters(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(kind)
    ]
