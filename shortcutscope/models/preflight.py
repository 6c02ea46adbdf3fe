"""What is found out about a model before any long work, by a few forward passes and one backward pass.

One plan for all stages: which scores are read and how (`Head`), whether a sample's score is its own, whether
scores move at all, and whether they have a gradient. Refusals name the mend; what was assumed is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.heads.head import Head, own_names
from shortcutscope.models.heads.links import Kind, Watch, sums_to_one
from shortcutscope.models.heads.targets import predicted_class, resolve_task, select_target
from shortcutscope.models.heads.ties import tie
from shortcutscope.models.outputs import find_scores
from shortcutscope.types import Array

#: Images that a model is tried on, and those of them that are run again in a smaller batch.
TRIED, AGAIN = 32, 4
#: Share of probabilities that are exactly 0 or 1 beyond which their order counts as lost.
SATURATED = 0.1
#: Scores from which numbers alone, all between 0 and 1, are taken for probabilities.
ENOUGH = 16
#: Difference, relative to the largest score, of the same images: run again, and in a batch of another size.
#: A coarser precision than float32 adds a tenth of itself, and ten times itself.
REPEATED, REBATCHED = 1e-5, 1e-3


@dataclass(frozen=True)
class Preflight:
    """What was found.

    Attributes
    ----------
    head
        Settled: how scores are read.
    assumed
        What was not said by anybody, in words.
    no_gradient
        Why the scores have no gradient with respect to the image; None where they have one.
    """

    head: Head
    assumed: tuple[str, ...] = ()
    no_gradient: str | None = None


def preflight(
    model: nn.Module,
    images: Tensor,
    head: Head,
    *,
    labels: Sequence[int] | Array | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = TRIED,
    autocast: torch.dtype | None = None,
) -> Preflight:
    """Try a model on the first images.

    Parameters
    ----------
    model
        Lent out by `shortcutscope.models.frozen.frozen`.
    images
        A batch (N, ...) where and as the model takes it.
    head
        What is said of its scores; one that is settled is only tried for its gradient.
    labels, classes
        Of all samples, to be compared with the outputs, and their names; None where no label is looked at.
    batch_size
        Images at a time.
    autocast
        Precision of the later passes, which these tolerate.

    Raises
    ------
    InputError
        Labels of which nobody said which output they belong to.
    ModelError
        Scores that are random, depend on the other images of a batch, are constant, or are probabilities that
        cannot be turned back into logits.
    """
    generators = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=generators), _mixed(images, autocast):
        if head.settled:
            return Preflight(head, (), _why_no_gradient(model, images[:AGAIN], head))
        scores, kind, coarse = _all_scores(model, images, head, batch_size)
        _require_own_scores(model, images, scores, head, coarse)
        finite = torch.isfinite(scores).all(1)
        settled, assumed = _settled(model, head, scores[finite], kind, labels, classes)
        if settled.link in ("sigmoid", "softmax"):
            _require_order(scores[finite], settled)
        _require_variety(scores[finite], images[finite])
        return Preflight(settled, assumed, _why_no_gradient(model, images[:AGAIN], settled))


def _mixed(images: Tensor, autocast: torch.dtype | None) -> torch.autocast:
    return torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None)


def _scores(model: nn.Module, images: Tensor, head: Head) -> Tensor:
    """The scores as they are; a copy goes in, since a model may normalise its input in place."""
    return find_scores(model(images.detach().clone()), head.part)


def _all_scores(
    model: nn.Module, images: Tensor, head: Head, batch_size: int
) -> tuple[Tensor, Kind | None, float]:
    """Scores, what they are, and the precision of the coarsest operation."""
    parts, watch = [], Watch()
    kind: Kind | None = None
    with torch.no_grad():
        for number, some in enumerate(torch.split(images, batch_size)):
            if number:
                part = _scores(model, some, head)
            else:
                with watch:
                    part = _scores(model, some, head)
                kind = watch.of.get(part)
            if len(part) != len(some):
                raise ModelError(
                    f"the model returns {len(part)} rows of scores for {len(some)} samples; it must score "
                    "each one"
                )
            parts.append(part)
    return torch.cat(parts), kind, watch.precision


def _require_own_scores(
    model: nn.Module, images: Tensor, scores: Tensor, head: Head, precision: float
) -> None:
    """Refuse scores that are drawn anew each time, or depend on what else is in the batch."""
    some, first = images[:AGAIN], images[:1]
    with torch.no_grad():
        few, again = _scores(model, some, head), _scores(model, some, head)
        try:
            alone = _scores(model, first, head)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the same model has just run on a larger batch
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"the model runs on {len(few)} images but fails on a batch of one: {why}. A batch norm "
                "without running statistics (track_running_stats=False) needs others beside each image, and "
                "squeeze() without a dimension drops that of the batch: use running statistics, squeeze(1)"
            ) from error
    if alone.shape != scores[:1].shape:
        raise ModelError(
            f"for a batch of one image the model returns scores of shape {tuple(alone.shape)}, for "
            f"{len(few)} images {tuple(few.shape)}: a squeeze() without a dimension drops that of the batch; "
            "write squeeze(1)"
        )
    size = float(torch.nan_to_num(scores).abs().max()) or 1.0
    if _apart(few, again) > (REPEATED + precision / 10) * size:
        raise ModelError(
            f"two runs on the same images give different scores ({_shown(few)} and {_shown(again)}): the "
            "model draws random numbers in evaluation mode (functional.dropout without "
            "training=self.training, Monte Carlo dropout, noise), so that no effect could be told from "
            "chance; switch them off in evaluation mode"
        )
    for other, n in ((alone, 1), (few, len(few))):
        if _apart(scores[: len(other)], other) > (REBATCHED + 10 * precision) * size:
            raise ModelError(
                f"an image's score depends on the others of its batch: {_shown(scores[:1])} among "
                f"{len(scores)}, {_shown(other[:1])} among {n}. A batch norm without running statistics "
                "(track_running_stats=False) or another normalisation over the batch does that; build the "
                "model with running statistics, or normalise each image on its own"
            )


def _apart(one: Tensor, other: Tensor) -> float:
    return float(torch.nan_to_num(one.double() - other.double()).abs().max())


def _shown(scores: Tensor) -> str:
    values = scores[0].tolist()
    return ", ".join(f"{value:.4g}" for value in values[:3]) + (" ..." if len(values) > 3 else "")


def _settled(
    model: nn.Module,
    head: Head,
    scores: Tensor,
    kind: Kind | None,
    labels: Sequence[int] | Array | None,
    classes: Sequence[str] | None,
) -> tuple[Head, tuple[str, ...]]:
    """Link, task and the label's output."""
    n = int(scores.shape[1])
    names, several = own_names(model)
    if head.names is not None and len(head.names) != n:
        raise InputError(
            f"output_names gives {len(head.names)} names, but the model has {n} outputs: give one name for "
            "each, in their order"
        )
    if head.names is None and names is not None and len(names) == n:
        head = replace(head, names=names)
    link, link_note = _link(head, scores, kind)
    settled = replace(head, link=link, outputs=n)
    settled, tie_notes = tie(settled, link, several=several, labels=labels, classes=classes)
    resolve_task(scores, settled.task)  # refuses a task that so many scores cannot have
    return settled, (*link_note, *tie_notes)


def _link(head: Head, scores: Tensor, kind: Kind | None) -> tuple[Any, tuple[str, ...]]:
    """What to invert, and how it is said."""
    single = scores.shape[1] == 1
    inside = bool(((scores >= 0) & (scores <= 1)).all())
    if head.link != "auto":
        if head.link != "identity" and not inside:
            raise InputError(
                f"the head says link={head.link!r}, but the scores lie between {float(scores.min()):.3g} and "
                f"{float(scores.max()):.3g}, outside 0 and 1; leave it out"
            )
        return head.link, ()
    remove = "remove the last layer, so that the model returns logits"
    if kind == "log sigmoid" or (kind == "log softmax" and (single or not sums_to_one(scores.exp()))):
        raise ModelError(
            "the model returns logarithms of probabilities, which are never above 0, so that no threshold "
            f"says what it decides: {remove}"
        )
    distributions = sums_to_one(scores) and len(scores) > 1
    if kind == "log softmax" or (kind == "affine" and not distributions) or not (inside and scores.numel()):
        return "identity", ()
    if kind == "softmax" and not single and not sums_to_one(scores):
        raise ModelError(
            f"the model returns {scores.shape[1]} of the probabilities of a softmax: return all of them, or "
            f"{remove}"
        )
    if (kind == "softmax" and not single) or (distributions and kind != "sigmoid"):
        return "softmax", (
            "the model returns probabilities that sum to 1 (a softmax inside): their logarithms are used as "
            "its logits",
        )
    if kind in ("sigmoid", "softmax"):
        return "sigmoid", (
            "the model returns probabilities (a sigmoid inside): log(p / (1 - p)) is used as its logits",
        )
    if scores.numel() < ENOUGH:
        return "identity", ()
    raise ModelError(
        f"all {len(scores)} images get scores between 0 and 1 ({float(scores.min()):.3g} to "
        f"{float(scores.max()):.3g}) by an operation that says not what they are; if they are probabilities, "
        f"{remove}, or say output=Head(link='sigmoid') (--link sigmoid); if they are logits, "
        "output=Head(link='identity') (--link identity)"
    )


def _require_order(scores: Tensor, head: Head) -> None:
    """Refuse probabilities of which so many are exactly 0 or 1 that samples cannot be told apart."""
    index = head.index
    column = scores if index is None or head.link == "softmax" else scores[:, index : index + 1]
    lost = column == 0
    if head.link == "sigmoid":
        lost = lost | (column == 1)
    share = float(lost.any(1).float().mean()) if len(column) else 0.0
    if share > SATURATED:
        hard = bool(((column == 0) | (column == 1)).all())
        what = "decisions, 0 or 1, and no scores" if hard else "probabilities that are exactly 0 or 1"
        raise ModelError(
            f"for {share:.0%} of {len(column)} images the model returns {what}: which of them it is surer of "
            "is lost; remove the last layer, so that it returns logits"
        )


def _require_variety(scores: Tensor, images: Tensor) -> None:
    """Refuse a model that gives different images the same scores."""
    if len(scores) < 2 or bool((images == images[:1]).all()):
        return
    spread = (scores.amax(0) - scores.amin(0)).max()
    if float(spread) <= 4 * torch.finfo(scores.dtype).eps * float(scores.abs().max()):
        raise ModelError(
            f"the model gives all {len(scores)} images tried the same scores ({_shown(scores)}): its output "
            "does not depend on the image, as that of a network with dead units or constant weights. There "
            "is nothing to audit; check that the weights are those of a trained network, and the transform"
        )


def _why_no_gradient(model: nn.Module, images: Tensor, head: Head) -> str | None:
    """Why no attribution is possible, or None; scores are known to differ between images."""
    if not images.is_floating_point():
        return "the images are whole numbers"
    leaf = images.detach().clone().requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        logits = head.read(model(leaf.clone()))
        task = "multilabel" if head.task == "multilabel" and logits.shape[1] > 1 else "auto"
        classes = predicted_class(logits.detach(), task)
        score = select_target(logits, classes, None, task)[0]
        if not score.requires_grad:
            return (
                "the scores have no gradient with respect to the image (a part of the model runs under "
                "no_grad, detaches its features, or is quantised)"
            )
        (slope,) = torch.autograd.grad(score.sum(), leaf, allow_unused=True)
    # Images of the same score say nothing: they may lie where the network is dead.
    moves = bool((logits.detach() != logits.detach()[:1]).any())
    if slope is None or (moves and not bool(slope.any())):
        return (
            "the score depends on the image but its gradient is zero (a part of the model is quantised, "
            "rounds, or decides by a threshold)"
        )
    return None
