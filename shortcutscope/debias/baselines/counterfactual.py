"""Twins of each image, which have one property of other images and keep the label."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from shortcutscope.allowed import Number
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.twin_choice import TwinCandidate, TwinChoice, twin_choice
from shortcutscope.debias.budget import budget, train
from shortcutscope.debias.groups import balanced_weights, training_groups
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import ScaledImages, rows_over
from shortcutscope.pixels.transferring import Transferring
from shortcutscope.pixels.transfers import TRANSFERS, moved, require_possible
from shortcutscope.pixels.transfers.side import has_dark_background, side_of
from shortcutscope.types import Ints


@dataclass(frozen=True, eq=False)
class TwinSource:
    """A table's images, and behind them their twins.

    Attributes
    ----------
    table
        The samples, N of them.
    transfer
        Name of what moves an image.
    donors
        (N * twins,) row of the image whose property a twin has; twin `i` is of row ``i % N``.
    seed
        Of what a transfer draws.
    """

    table: ImageTable
    transfer: str
    donors: Ints
    seed: int

    @cached_property
    def _images(self) -> ScaledImages:
        return ScaledImages.of(self.table)

    @cached_property
    def _dark(self) -> bool:
        return has_dark_background(self._images.viewed(rows_over(self.table)))

    def __len__(self) -> int:
        return len(self.table) + len(self.donors)

    def read(self, i: int) -> Tensor:
        """Image `i` before the transform, (C, *spatial) in the table's value range."""
        n = len(self.table)
        if i < n:
            return self.table.image(i)
        image, donor = self._images[i % n], self._images[int(self.donors[i - n])]
        sides = side_of(image, dark=self._dark), side_of(donor, dark=self._dark)
        twin = moved(self.transfer, image, *sides, np.random.default_rng([self.seed, i]))
        return self._images.original(twin)

    def identity(self, i: int) -> str:
        """As the table's own images say, with the transfer and the donor."""
        n = len(self.table)
        identity = self._identity(i % n)
        if i < n:
            return identity
        return f"{identity}|{self.transfer} of {self._identity(int(self.donors[i - n]))}|{self.seed}"

    def _identity(self, row: int) -> str:
        return self.table.source.identity(int(self.table.rows[row]))


def counterfactual_augmentation(
    problem: DebiasProblem,
    *,
    transfer: str | None = None,
    twins: Annotated[int, Number(1)] = 4,
    share: Annotated[float, Number(0, 1, whole=False, above=True)] = 1.0,
    balanced: bool = False,
) -> Outcome:
    """Cross-entropy on images and their twins: the same images with one property of others.

    The images whose property a twin gets are drawn from all samples, so that it tells nothing of the label:
    also at 100 % correlation, and where nobody knows which samples carry the shortcut. Counterfactually
    augmented data (Kaushik, Hovy, Lipton 2020, "Learning the difference that makes a difference") with twins
    that are computed (as Yang & Soatto 2020, "FDA", for the amplitudes of low frequencies) instead of written
    or generated.

    Parameters
    ----------
    problem
        With `carries`, unless `transfer` is given. Clean samples are not used.
    transfer
        A name of ``shortcutscope.pixels.transfers.TRANSFERS``, such as ``"exposure"`` or ``"noise"``: what
        the shortcut is made of. By default the one of whose twins plain features of the image tell least
        whose original carried the shortcut, see `shortcutscope.debias.baselines.twin_choice`.
    twins
        Of each image. They are made as they are read.
    share
        Of twins among what is drawn. With 1 no image is seen as it is, but each with the property of others:
        nothing of the correlation is left. Below it the images as they are still teach the shortcut.
    balanced
        Draw images, and twins by their originals, so that every group of label and concept comes equally
        often; needs `carries`.

    Raises
    ------
    InputError
        For a transfer that does not exist or cannot be done to these images; without one, where no transfer
        takes anything of the concept away; with `balanced`, without concept labels or with an empty group.
    """
    groups = training_groups(problem, "counterfactual-augmentation, balanced,") if balanced else None
    images = ScaledImages.of(problem.train)
    if transfer is not None:
        require_possible(transfer, images.dims)
        _require_one_size(problem.train, transfer)
        remarks = _named(problem, images, transfer)
    else:
        transfer, why = _chosen(problem, images)
        remarks = [why]
    table = with_twins(problem.train, transfer, twins, problem.seed)
    each = torch.ones(len(problem.train)) if groups is None else balanced_weights(groups)
    draws = torch.cat([(1 - share) * each, share * each.repeat(twins) / twins])
    outcome = train(
        problem,
        CrossEntropy(draws=draws),
        "counterfactual-augmentation",
        table=table,
        training=budget(problem),
    )
    notes = [*(groups.notes if groups else ()), f"{share:.0%} of the samples drawn are twins", *remarks]
    details: dict[str, object] = {"transfer": transfer, "twins": twins, "share": share, "balanced": balanced}
    return outcome.with_notes(notes, details)


def with_twins(table: ImageTable, transfer: str, twins: int, seed: int) -> ImageTable:
    """The samples, and behind them so many twins of each, see `TwinSource`.

    Parameters
    ----------
    table
        N samples.
    transfer
        Name of what moves an image.
    twins
        Of each.
    seed
        Of whose property they get.

    Returns
    -------
    ImageTable
        N * (1 + twins) samples with the roles; a twin is of its original's label and patient.
    """
    n = len(table)
    donors = _donors(n, twins, seed)
    roles = ["sample_id", "label", "group", "split"]
    frame = table.frame[roles]
    ids = frame["sample_id"].astype(str)
    copies = [frame.assign(sample_id=ids + f" twin {k + 1}") for k in range(twins)]
    return ImageTable(
        pd.concat([frame.assign(sample_id=ids), *copies], ignore_index=True),
        TwinSource(table, transfer, donors, seed),
        value_range=table.value_range,
        transform=table.transform,
        classes=table.classes,
        has_groups=table.has_groups,
        workers=table.workers,
    )


def _donors(n: int, twins: int, seed: int) -> Ints:
    """(n * twins,) rows, none its own: every image gives as often as it gets."""
    rng = np.random.default_rng([seed, 2])
    shifts = rng.permutation(np.arange(1, n))[:twins] if n > twins else rng.integers(1, max(2, n), twins)
    order = rng.permutation(n)
    place = np.argsort(order)
    donors: Ints = np.concatenate([order[(place + shift) % n] for shift in shifts])
    return donors


def _require_one_size(table: ImageTable, transfer: str) -> None:
    """Refuse images of several sizes for a transfer that needs one."""
    if not TRANSFERS[transfer].same_size:
        return
    shapes = sorted({tuple(table.image(row).shape) for row in rows_over(table)})
    if len(shapes) > 1:
        able = ", ".join(repr(name) for name, one in TRANSFERS.items() if not one.same_size)
        raise InputError(
            f"transfer={transfer!r} needs images of one size, and there are {shapes[0]} and {shapes[-1]}: "
            f"read them with size=, or take one of {able}"
        )


def _chosen(problem: DebiasProblem, images: ScaledImages) -> tuple[str, str]:
    """The transfer whose twins show least of the concept, and why it was taken."""
    if problem.carries is None:
        raise InputError(
            "counterfactual-augmentation has to know what the shortcut is made of: give transfer=, one of "
            f"{', '.join(map(repr, TRANSFERS))}; or which training samples carry it (concept=), by which one "
            "is chosen"
        )
    transferring = _transferring(problem, images)
    why = transferring.untested()
    if why is None:
        choice = twin_choice(transferring, progress=problem.progress)
        why = choice.refusal()
        if why is None:
            return choice.best.name, _why(choice, choice.best)
    raise InputError(
        f"counterfactual-augmentation: {why}. Name what the shortcut is made of as transfer=, one of "
        f"{', '.join(map(repr, TRANSFERS))}, or choose another recipe"
    )


def _named(problem: DebiasProblem, images: ScaledImages, transfer: str) -> list[str]:
    """What is to be said of a transfer that was asked for; a doubt where another takes more away."""
    notes = [f"each twin has {TRANSFERS[transfer].words} of another training image"]
    if problem.carries is None:
        return notes
    transferring = _transferring(problem, images)
    if transferring.untested() is not None:
        return notes
    choice = twin_choice(transferring, progress=problem.progress)
    candidate = choice.named(transfer)
    if candidate is None or not choice.within_labels:
        return notes
    notes = [_why(choice, candidate)]
    if choice.best.left < candidate.left - choice.error(candidate.left):
        notes.append(
            f"the shortcut may be learnt from what {transfer!r} leaves of it; {choice.best.name!r} leaves an "
            f"AUROC of {choice.best.left:.2f}"
        )
    return notes


def _why(choice: TwinChoice, candidate: TwinCandidate) -> str:
    return (
        f"each twin has {TRANSFERS[candidate.name].words} of another training image, after which plain "
        f"features tell whose original carried the concept with an AUROC of {candidate.left:.2f} "
        f"({choice.separation:.2f} as they are)"
    )


def _transferring(problem: DebiasProblem, images: ScaledImages) -> Transferring:
    frame = problem.train.frame
    groups = np.unique(frame["group"].to_numpy(), return_inverse=True)[1]
    labels = frame["label"].to_numpy().astype(np.int64)
    assert problem.carries is not None
    return Transferring(images, Samples(problem.carries, labels, groups), seed=problem.seed)
