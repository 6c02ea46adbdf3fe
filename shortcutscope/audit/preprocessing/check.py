"""Is this the model's own preprocessing? The network's performance on labelled images in many readings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shortcutscope.audit.audited_data import require_auroc
from shortcutscope.audit.preprocessing.batch_norms import BatchNorms
from shortcutscope.audit.preprocessing.performance import (
    SMALLEST,
    Judge,
    Performance,
    likelihood_bounds,
    lower_bounds,
)
from shortcutscope.audit.preprocessing.readings import (
    AS_GIVEN,
    ImagesReading,
    ReadImages,
    differs,
    in_contrast_and_channels,
    in_geometry,
    in_values,
)
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.heads.head import Head, Output, as_head
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.preflight import TRIED, preflight
from shortcutscope.options import READING, Running
from shortcutscope.show import parts
from shortcutscope.show.isolation import sheet
from shortcutscope.types import Array, Record

#: Labelled images that are read; fewest of each of two classes.
IMAGES, FEWEST = 200, 10
#: Standard errors by which a reading must lead for the next ones to start from it, and within which readings
#: count as even.
LEADING, EVEN = 1.0, 2.0
#: Distance from what the batch norms saw in training beyond which a reading is doubted, and the part of it
#: that another reading must stay below.
FAR, NEAR = 0.1, 0.25
#: Readings whose distances differ by less than this factor fit alike.
ALIKE = 1.5
#: Share of a scan that a check within an audit may cost, and what scanning an image costs at least, with its
#: backward pass, in forward passes of the network (measured: 1.7 to 3.2).
SHARE, PASSES = 0.05, 1.5
#: Readings and images that such a check is made with: the fewest, and as many as it wants.
FEWEST_READINGS, READINGS, FEWEST_IMAGES, MOST_IMAGES = 8, 24, 50, 150


@dataclass(frozen=True, repr=False)
class PreprocessingCheck:
    """How a network does in each reading of the same labelled images.

    Attributes
    ----------
    readings : DataFrame
        ``reading``, ``auroc`` (of several classes their mean), ``difference`` to the given reading,
        ``at_least`` (a bound below the difference that holds for all readings at once), ``norms`` (distance
        from what the batch norms saw in training; NaN without such), ``log_loss`` of the labels, ``better``,
        ``auroc <class>`` where there are several; best first.
    n_images, n_patients
        On which they were compared.
    interval
        Of 95 %, of the given reading's AUROC.
    expected_auroc
        What was said that it should be; None where nothing was.
    not_tried
        Readings that were left out, with the reason.
    """

    readings: pd.DataFrame
    n_images: int
    n_patients: int
    interval: tuple[float, float]
    expected_auroc: float | None = None
    not_tried: dict[str, str] = field(default_factory=dict)

    @property
    def auroc(self) -> float:
        """Of the given reading."""
        return float(self.readings.loc[self.readings["reading"] == AS_GIVEN, "auroc"].iloc[0])

    @property
    def better(self) -> tuple[str, ...]:
        """Readings that are better beyond the interval, best first."""
        return tuple(self.readings.loc[self.readings["better"], "reading"])

    @property
    def met(self) -> bool | None:
        """Whether the expected AUROC can be true; None where none was said."""
        return None if self.expected_auroc is None else self.interval[1] >= self.expected_auroc

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the given reading, in sentences."""
        said = []
        images = f"{self.n_images} labelled images"
        if self.met is False:
            said.append(
                f"an AUROC of {self.expected_auroc:.2f} was expected, and on {images} the model has "
                f"{self.auroc:.2f} ({self.interval[0]:.2f} to {self.interval[1]:.2f})"
            )
        if self.better:
            best = self.readings.set_index("reading").loc[self.better[0]]
            if best["at_least"] > 0:
                beyond = f"at least {best['at_least']:.3f} more"
            elif np.isnan(best["norms"]):
                beyond = "in which its labels are likelier, too, beyond chance"
            else:
                beyond = "whose inputs are also nearer to those that its batch norms saw in training"
            said.append(
                "the images may not be read as the model was trained: on "
                f"{images} its AUROC is {self.auroc:.2f} as they are read, and {best['auroc']:.2f} with "
                f"{self.better[0]} ({beyond})"
            )
        elif said:
            said.append("no other reading of the images that was tried is better: look at labels and weights")
        return tuple(said)

    def to_frame(self) -> pd.DataFrame:
        """One row per reading, best first."""
        return self.readings

    def to_json(self) -> Record:
        """As a run keeps it."""
        return {
            "n_images": self.n_images,
            "n_patients": self.n_patients,
            "auroc": self.auroc,
            "interval": list(self.interval),
            "expected_auroc": self.expected_auroc,
            "better": list(self.better),
            "readings": self.readings.to_dict("records"),
            "not_tried": self.not_tried,
        }

    @classmethod
    def from_json(cls, record: Record) -> PreprocessingCheck:
        """What `to_json` gave."""
        names = ("n_images", "n_patients", "expected_auroc", "not_tried")
        interval = tuple(float("nan") if bound is None else bound for bound in record["interval"])
        frame = pd.DataFrame(record["readings"]).astype({"norms": float})
        return cls(frame, interval=interval, **{name: record[name] for name in names})  # type: ignore[arg-type]

    def __repr__(self) -> str:
        head = f"PreprocessingCheck: AUROC {self.auroc:.3f} as given, on {self.n_images} images"
        sentences = self.warnings or ("no reading that was tried is better",)
        listing = self.readings[["reading", "auroc", "difference", "at_least", "norms", "better"]]
        return "\n".join([head, *(f"  {text}" for text in sentences), listing.to_string(index=False)])

    def _repr_html_(self) -> str:
        return sheet(
            parts.heading(
                "How the images are read", f"AUROC {self.auroc:.3f} as given, on {self.n_images} images"
            ),
            parts.notes(self.warnings or ("No reading that was tried is better.",)),
            parts.table(self.readings),
            plain=repr(self),
        )


def check_preprocessing(
    model: nn.Module,
    data: ImageTable,
    *,
    head: Output = None,
    n_images: int = IMAGES,
    expected_auroc: float | None = None,
    seed: int = 0,
    running: Running | None = None,
) -> PreprocessingCheck:
    """Compare ways to read the same labelled images by how well the network does.

    Tried are other values (0 to 1, -1 to 1, 0 to 255, mean and deviation of ImageNet, ...), the channels in
    the opposite order, inverted greys, another crop, another interpolation and other sizes; where one leads,
    the next ones start from it. A reading is called better where its gain in AUROC is 0.02 or more, and is
    beyond chance, for all readings at once, or is borne out: by the network's batch norms, without such by a
    gain in the likelihood of the labels that is beyond chance.

    Parameters
    ----------
    model
        Classifier; given back as it was.
    data
        Labelled images, with the transform that is in question.
    head
        Which scores are read, as in `shortcutscope.audit`.
    n_images
        On how many images, as many of each class as there are.
    expected_auroc
        What the model reaches on such images by its paper or its owner.
    seed
        Of the choice of images, and of the resamples of the patients.
    running
        Device, batch size, and how images are read.

    Returns
    -------
    check
        Its `warnings` say what is wrong; `readings` is the table of all readings.

    Raises
    ------
    InputError
        Too few images of two classes, or scores and labels that cannot be tied.
    ModelError
        Scores that cannot be used.

    Examples
    --------
    >>> check = check_preprocessing(model, table)  # doctest: +SKIP
    >>> check.better  # doctest: +SKIP
    ('mean and std of ImageNet',)
    """
    running = running or Running()
    running.require_only("this check", "device", "batch_size", "progress", *READING)
    require_auroc(expected_auroc)
    table = chosen_images(data, n_images, seed).keeping(running)
    with frozen(model, running.device) as borrowed:
        settled = _settled_head(borrowed, table, as_head(head), data, running)
        return compared_readings(borrowed, table, settled, expected_auroc, seed, running.batch_size)


def affordable_images(n_samples: int, *, relevance: bool) -> tuple[int, float]:
    """Images, and network passes, that a check may cost within an audit; no images where that is too little.

    Examples
    --------
    >>> affordable_images(100_000, relevance=True)
    (150, 7500.0)
    """
    passes = SHARE * n_samples * (PASSES if relevance else 1)
    if passes < FEWEST_IMAGES * FEWEST_READINGS:
        return 0, passes
    return min(MOST_IMAGES, max(FEWEST_IMAGES, int(passes / READINGS))), passes


def compared_readings(
    model: nn.Module,
    table: ImageTable,
    head: Head,
    expected_auroc: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
    passes: float = float("inf"),
) -> PreprocessingCheck:
    """The comparison itself, on all images of a table, with at most so many passes of the network.

    Parameters
    ----------
    model
        Lent out.
    table
        Labelled images.
    head
        Settled.
    expected_auroc, seed
        As in `check_preprocessing`.
    batch_size
        Images at a time.
    passes
        Of images of the given size.
    """
    frame = table.frame
    judge = Judge(frame["label"].to_numpy(), frame["group"].to_numpy(), head.read_task, seed)
    images = ReadImages(table)
    trial = _Trial(model, images, head, judge, batch_size, passes)
    given = base = ImagesReading()
    trial.run([given])
    if given.name not in trial.done:
        raise ModelError(f"the images cannot be judged as they are read: {trial.failed[given.name]}")
    for more in (_values, in_contrast_and_channels, in_geometry):
        for start in dict.fromkeys((base, given)):
            trial.run(list(more(images, start)), but=start)
        base = trial.leading(base)
    return _check(trial, table, expected_auroc)


def _values(images: ReadImages, given: ImagesReading) -> Iterator[ImagesReading]:
    if images.linear is None:
        return
    seen = torch.stack([images.unit(i) for i in range(min(TRIED, len(images.table)))])
    yield from in_values(images, seen, given)


class _Trial:
    """Readings that were tried, within what they may cost."""

    def __init__(
        self, model: nn.Module, images: ReadImages, head: Head, judge: Judge, batch_size: int, passes: float
    ) -> None:
        self.model, self.images, self.head, self.judge = model, images, head, judge
        self.batch_size, self.left = batch_size, passes / len(images.table)
        self.readings: dict[str, ImagesReading] = {}
        self.norms = BatchNorms(model)
        self.done: dict[str, Performance] = {}
        self.failed: dict[str, str] = {}

    def run(self, readings: list[ImagesReading], but: ImagesReading | None = None) -> None:
        """Try readings that differ from the base, as far as that can be paid."""
        few = range(min(3, len(self.images.table)))
        if but is not None:
            old = [self.images.inputs(i, [but])[0] for i in few]
            batch_inputs = [self.images.inputs(i, readings) for i in few]
            readings = [r for k, r in enumerate(readings) if differs([row[k] for row in batch_inputs], old)]
        todo = []
        for reading in readings:
            if reading.cost > self.left:
                self.failed[reading.name] = "left out: the check may cost a twentieth of the scan"
            elif reading.name not in self.done:
                self.left -= reading.cost
                todo.append(reading)
        for name, logits in self._logits(todo).items():
            performance = self.judge.performance(logits)
            if np.isfinite(performance.auroc):
                self.done[name] = performance
                self.readings[name] = next(r for r in todo if r.name == name)
            else:
                self.failed[name] = "the scores are not finite"

    def _logits(self, readings: list[ImagesReading]) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {reading.name: [] for reading in readings}
        rows = range(len(self.images.table))
        device = device_of(self.model)
        for start in range(0, len(rows), self.batch_size):
            working = [reading for reading in readings if reading.name in parts]
            batch_inputs = [self.images.inputs(i, working) for i in rows[start : start + self.batch_size]]
            for k, reading in enumerate(working):
                try:
                    x = torch.stack([inputs[k] for inputs in batch_inputs]).to(device)
                    with torch.no_grad(), self.norms.listening(reading.name):
                        logits = find_logits(self.model(x), self.head)
                    parts[reading.name].append(logits.float().cpu())
                except torch.OutOfMemoryError:
                    raise
                except Exception as error:  # the user's model, at sizes that it may not be made for
                    why = (str(error).strip() or type(error).__name__).splitlines()[0]
                    self.failed[reading.name] = f"the model fails: {why}"
                    del parts[reading.name]
        return {name: torch.cat(some) for name, some in parts.items()}

    def leading(self, base: ImagesReading) -> ImagesReading:
        """The first reading, where it leads the base by more than its standard error.

        Without batch norms also where it makes the labels likelier.
        """
        first = self.ranked()[0]
        gains = [self.done[first].gain(self.done[base.name])]
        if not self.norms.known:
            gains.append(self.done[first].likelihood_gain(self.done[base.name]))
        return self.readings[first] if any(gain > LEADING * error for gain, error in gains) else base

    def fits_norms(self, name: str) -> bool:
        """Whether the batch norms say that another reading than the given one is that of training."""
        given = self.norms.distance(AS_GIVEN)
        return given > FAR and self.norms.distance(name) < NEAR * given

    def ranked(self) -> list[str]:
        """Readings by their AUROC; those that are no worse than the best beyond two errors come first.

        Of these the ones that fit the batch norms are first, without batch norms those that make labels as
        likely as the best of them does; then the ones with fewest differences, and those of another
        interpolation last.
        """
        best = max(self.done, key=lambda name: self.done[name].auroc)
        gains = {name: self.done[best].gain(self.done[name]) for name in self.done}
        even = [name for name, (gain, error) in gains.items() if gain <= EVEN * error]
        fits = self._fitting(even)
        rest = sorted(set(self.done) - set(even), key=lambda name: gains[name][0])

        def order(name: str) -> tuple[bool, int, bool, float]:
            aspects = self.readings[name].aspects
            return name not in fits, len(aspects), "interpolation" in aspects, gains[name][0]

        return [*sorted(even, key=order), *rest]

    def _fitting(self, names: list[str]) -> set[str]:
        """Those of some readings that are nearest to training, by the batch norms or by the labels."""
        if self.norms.known:
            distances = {name: self.norms.distance(name) for name in names}
            fitting = max(FAR, ALIKE * min(distances.values()))
            return {name for name, distance in distances.items() if distance <= fitting}
        likeliest = self.done[min(names, key=lambda name: self.done[name].loss)]
        losses = {name: likeliest.likelihood_gain(self.done[name]) for name in names}
        return {name for name, (gain, error) in losses.items() if gain <= EVEN * error}


def _check(trial: _Trial, table: ImageTable, expected_auroc: float | None) -> PreprocessingCheck:
    given = trial.done[AS_GIVEN]
    others = {name: p for name, p in trial.done.items() if name != AS_GIVEN}
    bounds = lower_bounds(others, given)
    likelier = {} if trial.norms.known else likelihood_bounds(others, given)
    rows = []
    for name in trial.ranked():
        performance = trial.done[name]
        difference, bound = performance.auroc - given.auroc, bounds.get(name, 0.0)
        by_class = (
            {f"auroc {_class_name(table, c)}": value for c, value in performance.by_class.items()}
            if len(performance.by_class) > 1
            else {}
        )
        borne_out = trial.fits_norms(name) or likelier.get(name, 0.0) > 0
        better = name != AS_GIVEN and difference >= SMALLEST and (bound > 0 or borne_out)
        row = {"reading": name, "auroc": performance.auroc, "difference": difference, "at_least": bound}
        row |= {"norms": trial.norms.distance(name), "log_loss": performance.loss}
        rows.append({**row, "better": better, **by_class})
    return PreprocessingCheck(
        pd.DataFrame(rows),
        len(table),
        int(table.frame["group"].nunique()),
        given.interval(),
        expected_auroc,
        dict(trial.failed),
    )


def _class_name(table: ImageTable, c: int) -> str:
    return str(table.classes[c]) if table.classes is not None and c < len(table.classes) else str(c)


def chosen_images(data: ImageTable, n: int, seed: int) -> ImageTable:
    """At most `n` images, as many of each class as there are.

    Raises
    ------
    InputError
        Fewer than ten images of each of two classes, or several labels.
    """
    if data.labels:
        raise InputError(
            f"the samples have several labels ({', '.join(data.labels)}), and ways to read the images are "
            "compared by one; open the table with that label alone"
        )
    labels = data.frame["label"].to_numpy()
    permutation = np.random.default_rng(seed).permutation(len(data))
    place = pd.Series(labels[permutation]).groupby(labels[permutation]).cumcount().to_numpy()
    rows: Array = np.sort(permutation[np.argsort(place, kind="stable")][:n])
    counts = np.unique(labels[rows], return_counts=True)[1]
    if (counts >= FEWEST).sum() < 2:
        raise InputError(
            f"of {n} images {', '.join(map(str, counts))} are of one class each: {FEWEST} images of each of "
            "two classes are needed to tell how well the model does"
        )
    return data.take(rows)


def _settled_head(
    model: nn.Module, table: ImageTable, head: Head, data: ImageTable, running: Running
) -> Head:
    """The head as `preflight` settles it, on the first reading whose scores can be used."""
    if head.settled:
        return head
    images, labels = ReadImages(table), data.frame["label"].tolist()
    refused: ModelError | None = None
    for reading in (ImagesReading(), *_values(images, ImagesReading())):
        x = torch.stack([images.inputs(i, [reading])[0] for i in range(min(TRIED, len(table)))])
        some = (model, x.to(device_of(model)), head)
        try:
            return preflight(*some, labels=labels, classes=data.classes, batch_size=running.batch_size).head
        except ModelError as error:
            refused = refused or error
    assert refused is not None
    raise refused
