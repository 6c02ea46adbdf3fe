"""The loss of a student that learns from a teacher, and the teacher's outputs that it is held against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shortcutscope.data.table import ImageTable
from shortcutscope.debias.distillation.matching import (
    FeatureMatch,
    Pair,
    attention,
    channel_scale,
    common_grid,
    kl,
    linear_cka,
    pooled,
    to_grid,
)
from shortcutscope.debias.distillation.options import Distillation
from shortcutscope.debias.objective import Batch, Objective, at, cross_entropy, forward_with_layers
from shortcutscope.errors import InputError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer
from shortcutscope.progress import progress_bar

_STATISTICS_ROWS = 256
#: Forms that compare features at their positions.
OF_FEATURES = ("features", "relevant")


class Distill(Objective):
    """The loss of a student.

    Parameters
    ----------
    teacher
        Frozen while it is used; never changed.
    pairs
        Layers that are compared.
    options
        See `Distillation`.
    probes
        The teacher's fitted probes by its layer, for ``form="probes"``.
    example
        Inputs (N, C, *spatial) for the scale of the teacher's features.
    label_weights
        (N,) weights of the samples' cross-entropy; None for all alike.
    draws
        (N,) relative frequency with which each row is drawn; None for all alike.
    subspaces
        Directions of the shortcut by the teacher's layer, (k, C), for `Distillation.along`.
    relevant
        Directions that are compared by the teacher's layer, (k, C), for ``form="relevant"``.
    cached
        The teacher's outputs for every row, see `teacher_outputs`; None runs it at every step.
    """

    def __init__(
        self,
        teacher: nn.Module,
        pairs: Sequence[Pair],
        options: Distillation,
        *,
        probes: Mapping[str, nn.Module] | None = None,
        example: Tensor | None = None,
        label_weights: Tensor | None = None,
        draws: Tensor | None = None,
        subspaces: Mapping[str, Tensor] | None = None,
        relevant: Mapping[str, Tensor] | None = None,
        cached: Cached | None = None,
        n_classes: int = 2,
    ) -> None:
        super().__init__()
        self.options, self.pairs = options, tuple(pairs)
        self.allows_augmentation = cached is None
        # Not registered: the teacher is no part of what is trained, saved or moved.
        self._outside = (teacher, dict(probes or {}), cached)
        self._label_weights, self._draws = label_weights, draws
        self.matches = nn.ModuleList()
        if options.form == "probes":
            for pair in self.pairs:
                self.matches.append(nn.Linear(2 * pair.student.channels, n_classes))
        elif options.form in OF_FEATURES and self.pairs:
            if example is None:
                raise InputError("features are compared in units of their spread: give example=, some inputs")
            outputs = _layer_outputs(teacher, example[:_STATISTICS_ROWS], self.pairs)
            for pair in self.pairs:
                name = pair.teacher.name
                space, within = ((spaces or {}).get(name) for spaces in (subspaces, relevant))
                self.matches.append(
                    FeatureMatch(pair, channel_scale(outputs[name]), space, options.along, within)
                )

    def terms(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:  # noqa: D102
        o = self.options
        logits, outputs = forward_with_layers(model, batch.images, [p.student for p in self.pairs])
        goal, theirs = self._goals(batch)
        losses: dict[str, Tensor] = {}
        if o.labels != "none":
            weights = None if self._label_weights is None else at(self._label_weights, batch)
            losses["ce"] = o.label_weight * cross_entropy(logits, batch.labels, weights)
        if o.logit_weight > 0:
            losses["kl"] = o.logit_weight * kl(logits, goal, o.temperature, reverse=o.reverse)
        for k, pair in enumerate(self.pairs):
            distance = self._distance(k, outputs[pair.student.name], theirs[k])
            losses[pair.student.name] = o.layer_weight * pair.weight * distance
        return losses

    def networks(self) -> tuple[nn.Module, ...]:  # noqa: D102
        teacher, _, cached = self._outside
        return () if cached is not None else (teacher,)

    def draws(self) -> Tensor | None:  # noqa: D102
        return self._draws

    def _distance(self, k: int, values: Tensor, theirs: Tensor) -> Tensor:
        """Between the student's layer (N, C, *grid) and what `_goals` gives of the teacher's."""
        o, pair = self.options, self.pairs[k]
        if o.form == "probes":
            probe_logits = self.matches[k](pooled(values))
            return kl(probe_logits, theirs, o.temperature, reverse=o.reverse)
        if o.form == "cka":
            return 1 - linear_cka(pooled(values), theirs)
        values = to_grid(values, common_grid(pair))
        if o.form == "attention":
            return (attention(values) - theirs).pow(2).sum(1).mean()
        distance: Tensor = self.matches[k](values, theirs)
        return distance

    @torch.no_grad()
    def _goals(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        teacher, probes, cached = self._outside
        if cached is not None:
            return at(cached.logits, batch), [at(values, batch) for values in cached.layers]
        return _outputs(teacher, batch.images, self.pairs, self.options, probes)


@dataclass(frozen=True)
class Cached:
    """The teacher's outputs for every row of a table: logits (N, K), and what is compared of each pair."""

    logits: Tensor
    layers: tuple[Tensor, ...]


def teacher_outputs(
    teacher: nn.Module,
    table: ImageTable,
    pairs: Sequence[Pair],
    options: Distillation,
    probes: Mapping[str, nn.Module] | None = None,
    *,
    batch_size: int = 128,
    progress: bool = True,
) -> Cached:
    """Run the teacher once over a table. Feature maps are kept in half precision."""
    device = next(teacher.parameters()).device
    parts: list[tuple[Tensor, list[Tensor]]] = []
    rows = torch.split(torch.arange(len(table)), batch_size)
    with frozen(teacher), torch.no_grad():
        for batch in progress_bar(rows, desc="teacher", unit="batch", progress=progress):
            images = torch.stack([table[int(row)][0] for row in batch]).to(device)
            logits, goals = _outputs(teacher, images, pairs, options, probes or {})
            stored = [v.to("cpu", torch.bfloat16 if v.dim() > 2 else v.dtype) for v in goals]
            parts.append((logits.cpu(), stored))
    layers = tuple(torch.cat(values) for values in zip(*(goals for _, goals in parts), strict=True))
    return Cached(torch.cat([logits for logits, _ in parts]), layers)


def cache_bytes(n_samples: int, pairs: Sequence[Pair], options: Distillation) -> int:
    """What `teacher_outputs` would keep of the layers."""
    if options.form not in OF_FEATURES:
        return sum(4 * n_samples * max(2 * p.teacher.channels, _positions(common_grid(p))) for p in pairs)
    return sum(2 * n_samples * p.teacher.channels * _positions(common_grid(p)) for p in pairs)


def _outputs(
    teacher: nn.Module,
    images: Tensor,
    pairs: Sequence[Pair],
    options: Distillation,
    probes: Mapping[str, nn.Module],
) -> tuple[Tensor, list[Tensor]]:
    """Logits and, for each pair, what the student's layer is compared with."""
    logits, outputs = forward_with_layers(teacher, images, _teacher_layers(pairs))
    goals: list[Tensor] = []
    for pair in pairs:
        values = outputs[pair.teacher.name]
        if options.form == "probes":
            goals.append(probes[pair.teacher.name](pooled(values).float()))
        elif options.form == "cka":
            goals.append(pooled(values))
        elif options.form == "attention":
            goals.append(attention(to_grid(values, common_grid(pair))))
        else:
            goals.append(to_grid(values, common_grid(pair)))
    return logits, goals


def _layer_outputs(teacher: nn.Module, images: Tensor, pairs: Sequence[Pair]) -> dict[str, Tensor]:
    with frozen(teacher), torch.no_grad():
        return forward_with_layers(teacher, images, _teacher_layers(pairs))[1]


def _teacher_layers(pairs: Sequence[Pair]) -> list[Layer]:
    return list({p.teacher.name: p.teacher for p in pairs}.values())


def _positions(grid: Sequence[int]) -> int:
    return math.prod(grid)
