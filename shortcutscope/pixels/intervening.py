"""From a network, images and a concept to the word: is the concept confirmed on the pixels?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Output, as_head
from shortcutscope.options import READING, Running, Statistics
from shortcutscope.pixels.choice import Candidate
from shortcutscope.pixels.decision import decide
from shortcutscope.pixels.edited_images import Edits, edited_pictures, edited_table
from shortcutscope.pixels.effects import DIRECTIONS, Changes, Direction, Response, Scale, response
from shortcutscope.pixels.erasing import ChangesWithNull, Erasing
from shortcutscope.pixels.fills import fill_of
from shortcutscope.pixels.levelled import Levelled, Levelling
from shortcutscope.pixels.margins import Margins
from shortcutscope.pixels.masks import ImageMasks, image_masks
from shortcutscope.pixels.options import Intervening
from shortcutscope.pixels.pairs import refuse_used, write_pairs
from shortcutscope.pixels.result import PixelTest, Way
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import ScaledImages
from shortcutscope.pixels.subject import association_of, concept_of, samples_of, settled_head, way_of
from shortcutscope.pixels.transferring import Choice, Transferring, property_measure
from shortcutscope.pixels.transfers import TRANSFERS, require_possible
from shortcutscope.probes.association import Association
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.usage import within_class_spread
from shortcutscope.types import Floats, Ints, Record

#: What is read of `Running` and of `Statistics`.
READ, COUNTED = ("device", "batch_size", "progress", *READING), ("n_bootstrap", "seed", "positive")
#: Below this association, or above this p value, it is not known which way the concept should push.
SMALLEST_PHI, LEVEL = 0.1, 0.05
#: Keeps what a part of the work gave, by name, so that an interrupted test goes on.
Keeping = Callable[[str, Callable[[], Any]], Any]


class InterveneOptions(TypedDict, total=False):
    """The options of `intervene` that a finding takes, too."""

    intervening: Intervening | None
    statistics: Statistics | None
    running: Running | None
    pairs: str | Path | None


def intervene(
    model: nn.Module,
    data: ImageTable,
    concept: Concept | str,
    *,
    masks: MaskSet | str | Path | ImageMasks | None = None,
    association: Association | None = None,
    head: Output = None,
    intervening: Intervening | None = None,
    statistics: Statistics | None = None,
    running: Running | None = None,
    pairs: str | Path | None = None,
    keeping: Keeping | None = None,
) -> PixelTest:
    """Take a concept out of the pixels, put it into them, and see whether the network's output follows.

    It works on the image before the transform, so for any transform. With masks the carriers' masks are
    filled, and what they hold is inserted into other images; without, images of each side are moved to the
    other by the transfer that makes them most alike (`shortcutscope.pixels.transfers`). Each is compared with
    the same done to images in which it should change nothing.

    Parameters
    ----------
    model
        The network; given back as it was.
    data
        Images, with carriers and others.
    concept
        Which samples carry it; or the name of a column.
    masks
        Of the carriers, in their images' own geometry; or a function from a row to the mask of its image
        before the transform.
    association
        With the label; by default that in `data`. It says towards which label the concept should push.
    head
        Which scores are read, as in `audit`.
    intervening
        What is done, and to how many images.
    statistics
        Of it ``n_bootstrap``, ``seed`` and ``positive`` are read.
    running
        Device, batch size, bars, and how images are read.
    pairs
        A new folder for all images that were edited, before and after, see `shortcutscope.pixels.pairs`.
    keeping
        Keeps what parts of the work gave.

    Raises
    ------
    InputError
        Several labels, masks of other samples, a way that cannot be done to these images.

    Examples
    --------
    >>> ss.intervene(model, data, "ruler", masks="runs/derm/masks/ruler")  # doctest: +SKIP
    PixelTest('ruler': confirmed, erase by convolution)
    """
    data.require_one_label("the data")
    intervening = intervening or Intervening()
    statistics, running = statistics or Statistics(), running or Running()
    running.require_only("an intervention", *READ)
    statistics.require_only("an intervention", *COUNTED)
    data = data.keeping(running)
    concept = concept_of(concept, data).aligned_to(data.frame["sample_id"])
    samples = samples_of(concept, data)
    drawn = masks if masks is None or callable(masks) else image_masks(masks, data)
    way = way_of(intervening, drawn)
    association = association or association_of(samples, statistics)
    if pairs is not None:
        refuse_used(Path(pairs))
    with frozen(model, running.device) as borrowed:
        images = ScaledImages.of(data)
        settled = settled_head(borrowed, data, as_head(head), running.batch_size)
        margins = Margins(borrowed, images, settled, association.positive, running.batch_size)
        folder = None if pairs is None else Path(pairs)
        work = _Work(samples, margins, association, intervening, statistics, keeping or _computed, folder)
        return (
            work.erase(concept, drawn)
            if way == "erase"
            else work.transfer(concept, progress=running.progress)
        )


@dataclass(frozen=True, eq=False)
class _Work:
    """One intervention."""

    samples: Samples
    margins: Margins
    association: Association
    intervening: Intervening
    statistics: Statistics
    keeping: Keeping
    pairs: Path | None = None

    def erase(self, concept: Concept, masks: ImageMasks | None) -> PixelTest:
        """Fill masks, and insert what they hold."""
        assert masks is not None
        images, how, seed = self.margins.images, self.intervening.fill, self.statistics.seed
        fill = fill_of(how, images, self.samples.of(0).tolist())
        erasing = Erasing(images, self.samples, masks, fill, self.intervening.per_label, seed)
        if (why := erasing.untested()) is not None:
            result = self._result(concept, "erase", how, [], [why])
            if not erasing.own_masks:
                return result
            trial = erasing.alone(self.margins)
            return replace(result, samples=self._table({"without": trial}, None))
        trials = {
            d: self._kept(f"erase {how} {d}", partial(erasing.trial, d, self.margins)) for d in DIRECTIONS
        }
        scale, notes = self._scale(trials)
        responses = [self._response(d, trial, scale) for d, trial in trials.items()]
        result = self._result(
            concept,
            "erase",
            how,
            responses,
            [],
            notes=notes,
            levelled=self._levelled(trials),
            within_labels=bool(self.samples.both_sides(3)),
        )
        self._write_pairs(concept, ((d, erasing.before_after(d)) for d in DIRECTIONS))
        some = ((d, erasing.before_after(d, self.intervening.pictures)) for d in DIRECTIONS)
        return replace(result, samples=self._table(trials, scale), pictures=edited_pictures(images, some))

    def transfer(self, concept: Concept, *, progress: bool) -> PixelTest:
        """Choose a transfer, and move images of both sides."""
        images, only, seed = self.margins.images, self.intervening.transfer, self.statistics.seed
        if only is not None:
            require_possible(only, images.dims)
        column = None if concept.reading is None else concept.reading.column
        transferring = Transferring(
            images, self.samples, self.intervening.per_label, seed, property_measure(column)
        )
        if (why := transferring.untested()) is not None:
            return self._result(concept, "transfer", only or "none", [], [why])
        choice = self._choice(transferring, only, progress=progress)
        chosen = choice.named(only)
        told: Record = {"candidates": [c.to_dict() for c in choice.candidates]}
        if (why := choice.untested(chosen)) is not None:
            return self._result(concept, "transfer", chosen.name, [], [why], **told)
        before = self._before(transferring.rows)
        trials = {
            d: self._kept(
                f"transfer {chosen.name} {d}",
                partial(transferring.trial, d, chosen.name, self.margins, before),
            )
            for d in DIRECTIONS
        }
        scale, notes = self._scale(trials)
        arrived = all(chosen.arrived(d) for d in DIRECTIONS)
        levelled = self._levelled(trials) if arrived else []
        if TRANSFERS[chosen.name].of_levels and images.dims > 1:
            levelled = [self._exposure(), *levelled]
        result = self._result(
            concept,
            "transfer",
            chosen.name,
            [replace(self._response(d, trials[d], scale), doubt=_doubt(d, chosen)) for d in DIRECTIONS],
            [],
            notes=[*notes, *_measured(choice)],
            levelled=levelled,
            within_labels=transferring.sides[0].within_labels,
            **told,
        )
        self._write_pairs(concept, ((d, transferring.before_after(d, chosen.name)) for d in DIRECTIONS))
        some = ((d, transferring.before_after(d, chosen.name, self.intervening.pictures)) for d in DIRECTIONS)
        return replace(result, samples=self._table(trials, scale), pictures=edited_pictures(images, some))

    def _choice(self, transferring: Transferring, only: str | None, *, progress: bool) -> Choice:
        def compute() -> Record:
            choice = transferring.choice(only, progress=progress)
            return {"candidates": [c.to_dict() for c in choice.candidates], "separation": choice.separation}

        stored = self.keeping(f"choice {only or 'of all'}", compute)
        return Choice([Candidate.from_dict(c) for c in stored["candidates"]], stored["separation"])

    def _kept(self, name: str, compute: Callable[[], ChangesWithNull]) -> ChangesWithNull:
        def values() -> Record:
            trial = compute()
            return {"own": asdict(trial.own), "null": asdict(trial.null), "null_of": trial.null_of}

        stored = self.keeping(name, values)
        own, null = (
            Changes(
                np.asarray(stored[k]["rows"], int),
                *(np.asarray(stored[k][x], float) for x in ("before", "after")),
            )
            for k in ("own", "null")
        )
        return ChangesWithNull(own, null, stored["null_of"])

    def _before(self, rows: Ints) -> Floats:
        """Margins (N,) of images as they are; NaN of those that are not edited."""
        before = np.full(len(self.samples.labels), np.nan)
        values = self.keeping("as they are", lambda: self.margins(self.margins.images.each(rows.tolist())))
        before[rows] = values
        return before

    @cached_property
    def _sign(self) -> int:
        phi, p = float(np.nan_to_num(self.association.phi)), self.association.p
        return int(np.sign(phi)) if abs(phi) >= SMALLEST_PHI and p <= LEVEL else 0

    def _scale(self, trials: dict[Direction, ChangesWithNull]) -> tuple[Scale, list[str]]:
        """What changes are measured in; of a concept without an association the way it pushes is measured."""
        every = [x for trial in trials.values() for x in (trial.own, trial.null)]
        rows, first = np.unique(np.concatenate([x.rows for x in every]), return_index=True)
        before = np.concatenate([x.before for x in every])[first]
        spread = within_class_spread(before, self.samples.labels[rows])
        scale = Scale(self.samples.labels, self.samples.groups, spread, self._sign or 1)
        if self._sign:
            return scale, []
        pushes = sum(response(d, t.own, t.null, scale, n_bootstrap=1).excess for d, t in trials.items())
        note = (
            f"it is not associated with the label (phi {self.association.phi:+.2f}): effects are in the "
            "direction in which the output moves"
        )
        return replace(scale, sign=1 if pushes >= 0 else -1), [note]

    def _response(self, direction: Direction, trial: ChangesWithNull, scale: Scale) -> Response:
        n_bootstrap, seed = self.statistics.n_bootstrap, self.statistics.seed
        return response(
            direction, trial.own, trial.null, scale, null_of=trial.null_of, n_bootstrap=n_bootstrap, seed=seed
        )

    def _levelling(self, rows: Ints) -> Levelling:
        n_bootstrap, seed = self.statistics.n_bootstrap, self.statistics.seed
        return Levelling(
            self.margins.images, self.samples, rows, self.association.positive, n_bootstrap, seed
        )

    def _levelled(self, trials: dict[Direction, ChangesWithNull]) -> list[Levelled]:
        before, after = (np.full(len(self.samples.labels), np.nan) for _ in range(2))
        for trial in trials.values():
            before[trial.own.rows], after[trial.own.rows] = trial.own.before, trial.own.after
        rows = np.flatnonzero(np.isfinite(after))
        return [self._levelling(rows).sides(before, after)]

    def _exposure(self) -> Levelled:
        """Of all samples, or of a draw as large as two sides, whether the concept is known of them or not."""
        labels, rng = self.samples.labels, np.random.default_rng([self.statistics.seed, 7])
        most = 2 * self.intervening.per_label
        some = [rng.permutation(np.flatnonzero(labels == k))[:most] for k in np.unique(labels)]
        rows = np.sort(np.concatenate(some))

        def compute() -> Record:
            before = np.full(len(labels), np.nan)
            before[rows] = self.margins(self.margins.images.each(rows.tolist()))
            return self._levelling(rows).exposure(self.margins, before).to_dict()

        return Levelled.from_dict(self.keeping("exposure", compute))

    def _table(self, trials: dict[Direction, ChangesWithNull], scale: Scale | None) -> pd.DataFrame:
        sample_ids = self.margins.images.table.frame["sample_id"].to_numpy()
        return edited_table(trials, sample_ids, self.samples.labels, scale)

    def _write_pairs(self, concept: Concept, some: Iterator[tuple[Direction, Edits]]) -> None:
        """Write all edited images, where that is asked for."""
        if self.pairs is not None:
            every = ((row, d, before, after) for d, edits in some for row, before, after in edits)
            write_pairs(self.pairs, self.margins.images, concept.name, every)

    def _result(
        self,
        concept: Concept,
        way: Way,
        how: str,
        responses: list[Response],
        untested: list[str],
        *,
        notes: Sequence[str] = (),
        levelled: Sequence[Levelled] = (),
        candidates: Sequence[Record] = (),
        within_labels: bool = True,
    ) -> PixelTest:
        word, reason = decide(responses, untested, within_labels=within_labels)
        carries = self.samples.carries
        counts = {"known": int(np.isfinite(carries).sum()), "carriers": int((carries == 1).sum())}
        settings = {
            **asdict(self.intervening),
            "n_bootstrap": self.statistics.n_bootstrap,
            "seed": self.statistics.seed,
            "positive": self.association.positive,
            "phi": self.association.phi,
        }
        return PixelTest(
            concept.name, word, reason, way, how, responses, levelled, candidates, settings, counts, notes
        )


def _doubt(direction: Direction, chosen: Candidate) -> str:
    """Why moved images of a direction cannot stand for real ones."""
    if chosen.arrived(direction):
        return ""
    if (reached := chosen.reached_of(direction)) is not None:
        return f"they keep the property of their own side (AUROC {reached:.2f} after {chosen.name})"
    auroc = chosen.left_of(direction)
    return (
        f"they did not arrive: a new probe tells them from real ones (AUROC {auroc:.2f} after {chosen.name})"
    )


def _measured(choice: Choice) -> list[str]:
    return [
        f"plain features of the image show the concept with an AUROC of {choice.separation:.2f} within labels"
    ]


def _computed(_name: str, compute: Callable[[], Any]) -> Any:
    return compute()
