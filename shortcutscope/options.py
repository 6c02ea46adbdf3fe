"""Groups of options that several stages share: how something is run, how it is tested, how it is recorded."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shortcutscope.allowed import check_options
from shortcutscope.errors import InputError
from shortcutscope.stats.operating import Operating

if TYPE_CHECKING:
    import torch

__all__ = ["READING", "OptionGroup", "Recording", "Running", "Statistics"]

#: Options of `Running` that say how images are read: of every stage that reads them.
READING = ("workers", "cache", "cache_gb")


class OptionGroup:
    """A frozen dataclass of options, looked up in the table of what is allowed when it is made."""

    def __post_init__(self) -> None:
        check_options(vars(self))

    def require_only(self, stage: str, *names: str) -> None:
        """Refuse what a stage does not read, where it is not left at its default.

        Raises
        ------
        InputError
            Names the option, and those that the stage reads.
        """
        for entry in fields(self):  # type: ignore[arg-type]
            value, name = getattr(self, entry.name), type(self).__name__
            if entry.name not in names and value != entry.default:
                raise InputError(
                    f"{name}({entry.name}={value!r}): {stage} does not read it; of {name} it reads "
                    f"{', '.join(names)}"
                )


@dataclass(frozen=True)
class Running(OptionGroup):
    """Where and how images go through a network. A stage refuses what it does not read.

    Attributes
    ----------
    device
        Where to run; None for where the model is.
    precision
        ``"bf16"`` runs the network, not the statistics, in mixed precision.
    batch_size
        Images at a time.
    workers
        Processes that read images. None: as many as pay, which is one less than there are cores, four at
        most, for many files; none for images in memory, and where Python does not fork.
    progress
        Whether to show bars, on a terminal and in notebooks.
    on_unreadable
        What to do with images that cannot be read.
    cache
        Folder that keeps decoded images, so that no image is decoded again by whatever is given the same
        folder. They are as private as the images themselves. None: images are kept in memory as long as a
        stage runs, 2 GiB of them at most, and the others are decoded again where they are needed again.
    cache_gb
        Most gigabytes that it may hold.

    Raises
    ------
    InputError
        A value that is not allowed, or a device that is not there.

    Examples
    --------
    >>> ss.Running(batch_size=16, progress=False).batch_size
    16
    """

    device: str | torch.device | None = None
    precision: str = "fp32"
    batch_size: int = 64
    workers: int | None = None
    progress: bool = True
    on_unreadable: Literal["raise", "skip"] = "raise"
    cache: str | Path | None = None
    cache_gb: float = 50.0


@dataclass(frozen=True)
class Statistics(OptionGroup):
    """What is drawn and counted.

    Attributes
    ----------
    n_permutations
        Permutations of a concept within class.
    n_bootstrap
        Resamples of the patients.
    seed
        Of folds, permutations, resamples and choices of samples.
    positive
        Class that margins and effects refer to; by default 1 of two classes, and of several the one that the
        concept is associated with most.
    operating
        Of an audit: from which score a sample is called positive in the figures of the subgroups. A
        probability; ``"youden"``, where sensitivity and specificity are largest together; or
        ``"sensitivity=.9"``. The latter two are found on the audited samples, which is said.

    Raises
    ------
    InputError
        A value that is not allowed.

    Examples
    --------
    >>> ss.Statistics(n_permutations=500, operating="youden").n_permutations
    500
    """

    n_permutations: int = 200
    n_bootstrap: int = 300
    seed: int = 0
    positive: int | None = None
    operating: float | str = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        Operating.of(self.operating)


@dataclass(frozen=True)
class Recording(OptionGroup):
    """What a run says of where it comes from.

    Attributes
    ----------
    keep_paths
        Whether the run may name files: the paths of the command line, and each image's in ``files.parquet``.
    model_spec
        Name of the model; by default its class.
    command
        The command line that the run was started with.
    name
        What reports call the model; by default ``model_spec``.

    Examples
    --------
    >>> ss.Recording(name="Chest net 3").name
    'Chest net 3'
    """

    keep_paths: bool = False
    model_spec: str | None = None
    command: str | None = None
    name: str | None = None
