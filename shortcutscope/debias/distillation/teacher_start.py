"""Where a specialist teacher begins when no biased sample goes against the shortcut.

A network that was trained on such samples never had a reason to learn anything but the shortcut. Fine-tuned
on few clean samples it keeps some of it, and new weights may do better; where its features come from
elsewhere, as from pretraining, it may be the better start all the same. So both are cross-validated on the
clean samples, and judged on those that the biased network gets wrong. These go against the shortcut, whether
or not anybody knows who carries it, and a teacher that keeps the shortcut fails on them while it does well on
the others.

New weights are taken unless fine-tuning is better by more than a standard error (the rule of Breiman et al.
1984, with what cannot have inherited the shortcut in the place of the simplest): a few dozen samples do not
tell small differences apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from shortcutscope.data.splits import grouped_folds
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.groups import has_conflicting
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.teacher import (
    comparable_scores,
    mean_auroc,
    require_clean,
    teacher_training,
    train_teacher,
)
from shortcutscope.debias.training.settings import Start
from shortcutscope.errors import InputError
from shortcutscope.models.heads.targets import predicted_class
from shortcutscope.progress import progress_bar
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.stats.bootstrap import cluster_weights
from shortcutscope.types import Array

TeacherStart = Literal["model", "fresh", "auto"]
TEACHER_STARTS: tuple[TeacherStart, ...] = get_args(TeacherStart)
STARTS: tuple[Start, ...] = ("fresh", "model")

#: Folds of the clean samples, and resamples of their patients for the standard error.
FOLDS, RESAMPLES = 4, 500
#: With fewer errors of the biased network than this in a class, all clean samples are judged on.
MIN_ERRORS = 4


@dataclass(frozen=True)
class StartChoice:
    """Where a teacher begins, and why.

    Attributes
    ----------
    start
        ``"model"``, the biased network, or ``"fresh"``, as a student begins.
    reason
        In words.
    aurocs
        By start, out of fold, on the samples judged on; empty where there was nothing to choose by.
    standard_error
        Of their difference, over patients.
    n_judged
        Clean samples judged on.
    steps
        Optimiser steps that the choice took, all on clean samples.
    """

    start: Start
    reason: str
    aurocs: Mapping[str, float] = field(default_factory=dict)
    standard_error: float | None = None
    n_judged: int = 0
    steps: int = 0


def teacher_start(problem: DebiasProblem, start: TeacherStart) -> StartChoice | None:
    """The choice where there is one to make: ``"auto"``, and no training sample against the shortcut.

    None means the start that is asked for, and of ``"auto"`` the biased network.
    """
    if start != "auto" or problem.carries is None or has_conflicting(problem):
        return None
    return choose_start(problem)


def choose_start(problem: DebiasProblem) -> StartChoice:
    """Cross-validate both starts on the clean samples.

    Teachers are trained on all folds but one, whole patients at a time, and predict that one. Neither the
    biased samples nor those that a teacher is judged on take part.

    Parameters
    ----------
    problem
        With clean samples of every class.

    Returns
    -------
    StartChoice
        The biased network without any comparison, where the patients are too few for folds.

    Raises
    ------
    InputError
        Without clean samples, or with a class that has none.
    """
    clean = require_clean(problem)
    labels, groups = clean.frame["label"].to_numpy(), clean.frame["group"].to_numpy()
    wrong = predicted_class(predict_logits(problem.model, clean)).numpy() != labels
    try:
        problem.network("fresh")
    except InputError as refusal:
        reason = f"the teacher began from the biased network, since no new weights can be drawn: {refusal}"
        return StartChoice("model", reason)
    folds = _folds(labels, groups, wrong)
    if folds is None:
        reason = (
            f"the {len(clean)} clean samples are of too few patients to choose where the teacher begins: it "
            "began from the biased network"
        )
        return StartChoice("model", reason)
    parts = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    scores, steps = _out_of_fold(problem, clean, parts)
    rows, by_errors = _validation_rows(labels, wrong)
    row_scores = {start: values[rows] for start, values in scores.items()}
    aurocs: dict[str, float] = {
        start: float(mean_auroc(labels[rows], values)) for start, values in row_scores.items()
    }
    error = _standard_error(labels[rows], row_scores, groups[rows], problem.seed)
    start: Start = "model" if aurocs["model"] - aurocs["fresh"] > error else "fresh"
    which = "that the biased network gets wrong" if by_errors else "(the biased network errs on few)"
    reason = (
        f"the teacher began {'from the biased network' if start == 'model' else 'with new weights'}: on the "
        f"{rows.sum()} clean samples {which}, cross-validated, the AUROC is {aurocs['fresh']:.2f} with new "
        f"weights and {aurocs['model']:.2f} from the biased network (standard error of the difference "
        f"{error:.2f}); that took {steps} steps on clean samples beside the budget"
    )
    return StartChoice(start, reason, aurocs, error, int(rows.sum()), steps)


def _out_of_fold(
    problem: DebiasProblem, clean: ImageTable, parts: Sequence[Array]
) -> tuple[dict[Start, Array], int]:
    """By start, scores of all clean samples by teachers that did not see them; and the steps taken."""
    scores: dict[Start, Array] = {}
    steps = 0
    with progress_bar(
        total=len(STARTS) * len(parts), desc="teacher's start", progress=problem.progress
    ) as bar:
        for start in STARTS:
            fold_scores: list[Array] = []
            for fold in parts:
                rest = clean.take(np.setdiff1d(np.arange(len(clean)), fold))
                fold_scores.append(comparable_scores(_predict(problem, rest, clean.take(fold), start)))
                steps += teacher_training(len(rest), problem.training, start).n_steps(len(rest))
                bar.update()
            scores[start] = np.concatenate(fold_scores)[np.argsort(np.concatenate(parts))]
    return scores, steps


def _folds(labels: Array, groups: Array, wrong: Array) -> Array | None:
    """(N,) folds of which every rest has two samples of each class; None where there are none."""
    classes = np.unique(labels)
    n_folds = min(FOLDS, *(len(np.unique(groups[labels == value])) for value in classes))
    if n_folds < 2:
        return None
    folds = grouped_folds(groups, 2 * labels + wrong, n_folds, seed=0)
    rests = [labels[folds != fold] for fold in np.unique(folds)]
    whole = all((rest == value).sum() >= 2 for rest in rests for value in classes)
    return folds if whole else None


def _predict(problem: DebiasProblem, clean: ImageTable, test: ImageTable, start: Start) -> Tensor:
    """(N, K) logits of the held-out samples."""
    inputs = replace(problem, clean=clean, progress=False)
    return predict_logits(train_teacher(inputs, start=start).model, test)


def _validation_rows(labels: Array, wrong: Array) -> tuple[Array, bool]:
    """(N,) which samples are judged on, and whether they are the biased network's errors."""
    if all((labels[wrong] == value).sum() >= MIN_ERRORS for value in np.unique(labels)):
        return wrong, True
    return np.ones(len(labels), bool), False


def _standard_error(labels: Array, scores: Mapping[Start, Array], groups: Array, seed: int) -> float:
    """Of the difference of the two AUROCs, paired on the same resamples of patients."""
    weights = cluster_weights(groups, RESAMPLES, seed)
    resamples = {start: np.asarray(mean_auroc(labels, values, weights)) for start, values in scores.items()}
    return float(np.nanstd(resamples["model"] - resamples["fresh"]))
