"""Which logit is explained: the model's raw scores, the class chosen per sample, and the margin.

A prediction is explained from one scalar per sample. Their number must equal the batch: a wrong number of
targets is refused, never recycled or cut to the shorter of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import TASKS, Head, KnownTask, Output, against_others
from shortcutscope.models.outputs import find_scores
from shortcutscope.types import Array

Target = str | int | Tensor | Array | Sequence[int]


def find_logits(output: object, key: Output = None) -> Tensor:
    """The raw class scores in what a model returned.

    Parameters
    ----------
    output
        As in `shortcutscope.models.outputs.find_scores`.
    key
        Name or position of the scores, where they are not found by themselves; or a `Head`, which also says
        which one of them the label belongs to, and inverts probabilities.

    Returns
    -------
    logits
        Tensor of shape (N, K).

    Raises
    ------
    InputError, ModelError
        As `find_scores`, and for a head that does not fit.
    """
    return key.read(output) if isinstance(key, Head) else find_scores(output, key)


def count_scores(model: nn.Module, example: Tensor) -> int:
    """Number of raw scores K that a model returns for each sample of a batch."""
    with frozen(model), torch.no_grad():
        return int(find_logits(model(example)).shape[1])


def resolve_task(logits: Tensor, task: str = "auto") -> KnownTask:
    """The task that scores of this shape belong to.

    Parameters
    ----------
    logits
        Scores, shape (N, K).
    task
        ``"auto"`` reads one score as ``"binary"`` and several as ``"multiclass"``. ``"binary"`` with two
        scores is a multiclass task of two classes. ``"multilabel"`` is never guessed.

    Raises
    ------
    InputError
        Unknown task, or one that the number of scores does not allow.
    """
    if task not in TASKS:
        raise InputError(f"task is {task!r}; allowed are {', '.join(TASKS)}")
    n_scores = int(logits.shape[1])
    if task == "auto" or (task == "binary" and n_scores == 2):
        return "binary" if n_scores == 1 else "multiclass"
    if task == "binary" and n_scores != 1:
        raise InputError(
            f"task is 'binary' but the model returns {n_scores} scores per sample; use 'multiclass'"
        )
    if task == "multiclass" and n_scores == 1:
        raise InputError("task is 'multiclass' but the model returns one score per sample; use 'binary'")
    return cast(KnownTask, task)


def class_count(logits: Tensor, task: str = "auto") -> int:
    """Number of classes: two for a single score, else the number of scores."""
    return 2 if resolve_task(logits, task) == "binary" else int(logits.shape[1])


def predicted_class(logits: Tensor, task: str = "auto") -> Tensor:
    """The class that the model predicts, int64 of shape (N,).

    The largest score; for a single score class 1 where it is positive; for several labels the label with
    the largest score.
    """
    if resolve_task(logits, task) == "binary":
        return (logits[:, 0] > 0).long()
    return logits.argmax(dim=1)


def select_target(
    logits: Tensor,
    target: Target = "predicted",
    labels: Tensor | None = None,
    task: str = "auto",
) -> tuple[Tensor, Tensor]:
    """One score per sample, the one that is explained.

    Parameters
    ----------
    logits
        Scores, shape (N, K).
    target
        ``"predicted"``, ``"label"``, one class for all samples, or one class per sample (N,).
    labels
        Class per sample (N,), for ``"label"``.
    task
        See `resolve_task`. With a single score z, class 1 is explained by +z and class 0 by -z.

    Returns
    -------
    scores
        Shape (N,), differentiable with respect to `logits`.
    target_ids
        The chosen class per sample, int64 of shape (N,).

    Raises
    ------
    InputError
        The number of targets is not N, a class lies outside the model's outputs, labels are missing, or
        ``"label"`` is asked of a multi-label model.
    """
    kind = resolve_task(logits, task)
    classes = _chosen_classes(logits, target, labels, kind)
    if kind == "binary":
        sign = (2 * classes - 1).to(logits.dtype)
        return logits[:, 0] * sign, classes
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1), classes


def two_scores(logits: Tensor) -> Tensor:
    """(N, max(K, 2)) scores: the one score z of a binary task becomes the two scores 0 and z."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def margin(logits: Tensor, task: str = "auto", positive: int = 1) -> Tensor:
    """By how much the model prefers class `positive`, in logits, shape (N,).

    For K classes the score of `positive` minus the largest other one (z1 - z0 for two), for a single score
    z itself (or -z for class 0), for several labels the label's own score. Positive means "predicted".

    Raises
    ------
    InputError
        `positive` lies outside the model's outputs.
    """
    kind = resolve_task(logits, task)
    _check_range(torch.tensor([positive]), class_count(logits, kind), "positive class")
    if kind == "binary":
        return logits[:, 0] if positive == 1 else -logits[:, 0]
    if kind == "multilabel":
        return logits[:, positive]
    return against_others(logits, positive)


def require_finite(logits: Tensor) -> None:
    """Refuse scores that are NaN or infinite.

    Raises
    ------
    ModelError
        Says in how many samples.
    """
    bad = ~torch.isfinite(logits).reshape(logits.shape[0], -1).all(dim=1)
    if bad.any():
        raise ModelError(
            f"the model returns NaN or infinite scores for {int(bad.sum())} of {len(bad)} samples; check its "
            "weights (a diverged training, half precision) and the value range and transform of the images"
        )


def _is(target: Target, word: str) -> bool:
    return isinstance(target, str) and target == word


def _chosen_classes(logits: Tensor, target: Target, labels: Tensor | None, task: KnownTask) -> Tensor:
    if isinstance(target, str):
        if target == "predicted":
            return predicted_class(logits, task)
        if target != "label":
            raise InputError(
                f"target is {target!r}; allowed are 'predicted', 'label', a class, or a class per sample"
            )
        if task == "multilabel":
            raise InputError(
                "target='label' does not name one score of a multi-label model; give the class as an int"
            )
        if labels is None:
            raise InputError("target='label' needs the labels of the batch")
        return _per_sample(labels, logits, "labels", task)
    if isinstance(target, int | np.integer) and not isinstance(target, bool):
        _check_range(torch.tensor([int(target)]), class_count(logits, task), "target")
        return torch.full((logits.shape[0],), int(target), dtype=torch.long, device=logits.device)
    return _per_sample(target, logits, "targets", task)


def _per_sample(values: object, logits: Tensor, name: str, task: KnownTask) -> Tensor:
    classes = torch.as_tensor(values)
    if classes.dim() != 1 or len(classes) != len(logits):
        raise InputError(
            f"{name} have shape {tuple(classes.shape)} but the batch has {len(logits)} samples; "
            "give one class per sample"
        )
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise InputError(f"{name} are of {classes.dtype}; classes are integers")
    # Before they are on the device, so that the host need not wait for it.
    _check_range(classes, class_count(logits, task), name.removesuffix("s"))
    return classes.to(logits.device, torch.long, non_blocking=True)


def _check_range(classes: Tensor, n_classes: int, name: str) -> None:
    outside = classes[(classes < 0) | (classes >= n_classes)]
    if len(outside):
        some = ", ".join(map(str, sorted(set(outside.tolist()))[:5]))
        raise InputError(
            f"{name} {some} lies outside the model's {n_classes} classes (0 to {n_classes - 1}); map the "
            "labels to the model's outputs, or load the model with as many classes as the data has"
        )
