"""Learning from twins of each image, which have properties of other images and keep the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch

from shortcutscope.allowed import Number
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.baselines.twin_choice import TwinCandidate, TwinChoice, TwinTrials
from shortcutscope.debias.baselines.twins import in_order, with_twins
from shortcutscope.debias.budget import budget, train
from shortcutscope.debias.groups import balanced_weights, training_groups
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.errors import InputError
from shortcutscope.pixels.samples import Samples
from shortcutscope.pixels.scaled_images import ScaledImages, rows_over
from shortcutscope.pixels.transferring import Transferring
from shortcutscope.pixels.transfers import TRANSFERS, require_possible


def counterfactual_augmentation(
    problem: DebiasProblem,
    *,
    transfer: str | Sequence[str] | None = None,
    twins: Annotated[int, Number(1)] = 4,
    share: Annotated[float, Number(0, 1, whole=False, above=True)] = 1.0,
    balanced: bool = False,
) -> Outcome:
    """Cross-entropy on images and their twins: the same images with one property of others, or several.

    The images whose properties a twin gets are drawn from all samples, so that these tell nothing of the
    label: also at 100 % correlation, and where nobody knows which samples carry the shortcut.
    Counterfactually augmented data (Kaushik, Hovy, Lipton 2020, "Learning the difference that makes a
    difference") with twins that are computed (as Yang & Soatto 2020, "FDA", for the amplitudes of low
    frequencies) instead of written or generated.

    Parameters
    ----------
    problem
        With `carries`, unless `transfer` is given. Clean samples are not used.
    transfer
        A name of ``shortcutscope.pixels.transfers.TRANSFERS``, such as ``"exposure"`` or ``"noise"``: what
        the shortcut is made of. By default the one of whose twins plain features of the image tell least
        whose original carried the shortcut, see `shortcutscope.debias.baselines.twin_choice`. Several, in a
        list or separated by commas, are done to every twin, each from an image of its own; where several
        findings are unlearnt together, one is chosen for each, beside those of the findings before it.
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
        transfers = _allowed(problem.train, images.dims, transfer)
        remarks = _named(problem, images, transfers)
    else:
        transfers, remarks = _chosen(problem, images)
    table = with_twins(problem.train, transfers, twins, problem.seed)
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
    details: dict[str, object] = {
        "transfer": ", ".join(transfers),
        "twins": twins,
        "share": share,
        "balanced": balanced,
    }
    return outcome.with_notes(notes, details)


def _allowed(table: ImageTable, dims: int, transfer: str | Sequence[str]) -> tuple[str, ...]:
    """The transfers that were asked for, in the order in which they are done."""
    names = [name.strip() for name in transfer.split(",")] if isinstance(transfer, str) else list(transfer)
    if len(set(names)) < len(names) or not names:
        raise InputError(f"transfer={transfer!r}: give one or several, each once")
    for name in names:
        require_possible(name, dims)
        _require_one_size(table, name)
    return in_order(names)


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


def _chosen(problem: DebiasProblem, images: ScaledImages) -> tuple[tuple[str, ...], list[str]]:
    """The transfers whose twins show least of each concept, one beside the other, and why they were taken."""
    if problem.carries is None:
        raise InputError(
            "counterfactual-augmentation has to know what the shortcut is made of: give transfer=, one of "
            f"{', '.join(map(repr, TRANSFERS))}; or which training samples carry it (concept=), by which one "
            "is chosen"
        )
    transfers: tuple[str, ...] = ()
    chosen: list[tuple[str, TwinTrials, TwinChoice]] = []
    for name, trials in _trials(problem, images):
        if (why := trials.transferring.untested()) is None:
            choice = trials.choice(transfers, progress=problem.progress)
            why = choice.refusal()
        if why is not None:
            raise _refused(problem, name, why)
        transfers = choice.best.transfers
        chosen.append((name, trials, choice))
    notes = [_words(transfers)]
    for name, trials, choice in chosen:
        together = choice.best if choice.best.transfers == transfers else trials.candidate(transfers)
        if (why := replace(choice, candidates=[together]).refusal()) is not None:
            raise _refused(problem, name, f"beside what the others take, {why}")
        notes.append(_left(name, choice, together))
    return transfers, notes


def _refused(problem: DebiasProblem, name: str, why: str) -> InputError:
    of = f" for {name!r}" if problem.beside else ""
    leave = ", leave this finding out" if problem.beside else ""
    return InputError(
        f"counterfactual-augmentation{of}: {why}. Name what the shortcut is made of as transfer=, one of "
        f"{', '.join(map(repr, TRANSFERS))}{leave}, or choose another recipe"
    )


def _named(problem: DebiasProblem, images: ScaledImages, transfers: tuple[str, ...]) -> list[str]:
    """What is to be said of transfers that were asked for; a doubt where another takes more away."""
    notes = [_words(transfers)]
    for name, trials in _trials(problem, images):
        if trials.transferring.untested() is not None:
            continue
        choice, candidate = trials.choice(progress=problem.progress), trials.candidate(transfers)
        if not choice.within_labels:
            continue
        notes.append(_left(name, choice, candidate))
        if choice.best.left < candidate.left - choice.error(candidate.left):
            notes.append(
                f"the shortcut may be learnt from what {candidate.name!r} leaves of it; "
                f"{choice.best.name!r} leaves an AUROC of {choice.best.left:.2f}"
            )
    return notes


def _words(transfers: Sequence[str]) -> str:
    properties = [f"{TRANSFERS[name].words} of another training image" for name in transfers]
    return f"each twin has {' and '.join(properties)}"


def _left(name: str, choice: TwinChoice, candidate: TwinCandidate) -> str:
    return (
        f"plain features of twins tell whose original carried {name} with an AUROC of {candidate.left:.2f} "
        f"({choice.separation:.2f} as they are)"
    )


def _trials(problem: DebiasProblem, images: ScaledImages) -> list[tuple[str, TwinTrials]]:
    """Of each finding that is to be unlearnt."""
    if problem.carries is None:
        return []
    frame = problem.train.frame
    groups = np.unique(frame["group"].to_numpy(), return_inverse=True)[1]
    labels = frame["label"].to_numpy().astype(np.int64)
    every = zip(problem.names, (problem.carries, *problem.beside.values()), strict=True)
    return [
        (name, TwinTrials(Transferring(images, Samples(carries, labels, groups), seed=problem.seed)))
        for name, carries in every
    ]
