"""How a student's layer is compared with a teacher's: by probes, by features, by attention, by similarity.

The two networks may differ: each of the student's layers goes with the teacher's layer of nearest depth, an
adapter (a linear map of the channels, trained along) brings the student's channels to the teacher's, and
maps are averaged to the coarser of the two grids, of at most eight cells an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812  (the name everyone reads)
from torch import Tensor, nn

from shortcutscope.errors import InputError
from shortcutscope.models.heads.targets import two_scores
from shortcutscope.models.layers import Layer

Form = Literal["probes", "features", "relevant", "attention", "cka"]
FORMS: tuple[Form, ...] = ("probes", "features", "relevant", "attention", "cka")

#: Maps are compared in at most so many cells along each axis. It costs a fraction of comparing all positions.
CELLS = 8


@dataclass(frozen=True)
class Pair:
    """A layer of the student, the teacher's layer that it is compared with, and the weight of both."""

    student: Layer
    teacher: Layer
    weight: float


def pair_layers(
    student: Sequence[Layer], teacher: Sequence[Layer], weights: Mapping[str, float]
) -> list[Pair]:
    """The student's weighted layers, each with the teacher's of that name, or else of nearest depth.

    Parameters
    ----------
    student, teacher
        As `find_layers` returns them.
    weights
        Weights of the student's layers by name; those of weight 0 are left out.

    Raises
    ------
    InputError
        For a layer that the student does not have, a negative weight, or none above 0.
    """
    by_name = {layer.name: layer for layer in student}
    unknown = [name for name in weights if name not in by_name]
    if unknown:
        raise InputError(f"the student has no layer {unknown[0]!r}; it has {', '.join(by_name)}")
    if any(not weight >= 0 for weight in weights.values()) or not any(weights.values()):
        raise InputError(f"layer weights must be 0 or more and not all 0, not {dict(weights)}")
    others = {layer.name: layer for layer in teacher}
    pairs = []
    for name, weight in weights.items():
        if weight > 0:
            layer = by_name[name]
            other = others.get(name)
            if other is None or len(other.grid) != len(layer.grid):
                fitting = [x for x in teacher if len(x.grid) == len(layer.grid)] or list(teacher)
                other = min(fitting, key=lambda x: abs(x.depth - layer.depth))
            pairs.append(Pair(layer, other, float(weight)))
    return pairs


def pooled(values: Tensor) -> Tensor:
    """Spatial mean and maximum of a layer (N, C, *grid), side by side (N, 2C); what probes read."""
    if values.dim() == 2:
        return torch.cat([values, values], dim=1)
    axes = tuple(range(2, values.dim()))
    pools: dict[int, Callable[[Tensor, int], Tensor]] = {
        1: F.adaptive_max_pool1d,
        2: F.adaptive_max_pool2d,
        3: F.adaptive_max_pool3d,
    }
    return torch.cat([values.mean(axes), pools[len(axes)](values, 1).flatten(1)], dim=1)


def to_grid(values: Tensor, grid: Sequence[int]) -> Tensor:
    """A map (N, C, *own) averaged to a grid with as many axes; as it is where the sizes agree."""
    if tuple(values.shape[2:]) == tuple(grid):
        return values
    pools: dict[int, Callable[[Tensor, Any], Tensor]] = {
        1: F.adaptive_avg_pool1d,
        2: F.adaptive_avg_pool2d,
        3: F.adaptive_avg_pool3d,
    }
    return pools[len(grid)](values, tuple(grid))


def common_grid(pair: Pair) -> tuple[int, ...]:
    """Along each axis the smaller of the two grids, and at most `CELLS`."""
    return tuple(min(a, b, CELLS) for a, b in zip(pair.student.grid, pair.teacher.grid, strict=True))


def kl(student: Tensor, teacher: Tensor, temperature: float, *, reverse: bool = False) -> Tensor:
    """``T^2 KL(p_teacher || p_student)`` of tempered logits (N, K), mean over samples; (N, 1) as two classes.

    Hinton et al. 2015; `reverse` takes KL(p_student || p_teacher).
    """
    s, t = (F.log_softmax(two_scores(z).float() / temperature, dim=1) for z in (student, teacher))
    first, second = (s, t) if reverse else (t, s)
    # kl_div(input, target) is KL(target || input).
    return F.kl_div(second, first, reduction="batchmean", log_target=True) * temperature**2


def attention(values: Tensor) -> Tensor:
    """Attention maps ``Q / |Q|``, ``Q = sum_c |A_c|^2`` (Zagoruyko & Komodakis 2017), as (N, positions)."""
    return F.normalize(values.float().pow(2).mean(1).flatten(1), dim=1)


def linear_cka(a: Tensor, b: Tensor) -> Tensor:
    """Linear centred kernel alignment (Kornblith et al. 2019) of features (N, C) and (N, D), in [0, 1]."""
    a, b = (x.float() - x.float().mean(0) for x in (a, b))
    kernel_a, kernel_b = a @ a.T, b @ b.T
    size: Tensor = kernel_a.flatten().norm() * kernel_b.flatten().norm()
    shared: Tensor = (kernel_a * kernel_b).sum() / size.clamp_min(1e-12)
    return shared


class FeatureMatch(nn.Module):
    """Mean squared difference of standardised features (FitNets, Romero et al. 2015).

    Parameters
    ----------
    pair
        The two layers; where their channels differ the student's pass an adapter.
    scale
        (C,) standard deviation of the teacher's channels.
    subspace
        (k, C) orthonormal directions of the shortcut among the teacher's standardised channels, or None.
        The difference is split into its part along them and the rest.
    along
        Weight of the part along the subspace; 0 matches the complement alone, 1 is plain matching.
    within
        (k, C) orthonormal directions among the teacher's standardised channels: nothing else is compared.
    """

    scale: Tensor
    subspace: Tensor | None
    within: Tensor | None

    def __init__(
        self,
        pair: Pair,
        scale: Tensor,
        subspace: Tensor | None = None,
        along: float = 1.0,
        within: Tensor | None = None,
    ) -> None:
        super().__init__()
        wide, narrow = pair.teacher.channels, pair.student.channels
        self.adapter = None if wide == narrow else nn.Linear(narrow, wide)
        self.along = along
        self.register_buffer("scale", scale.float())
        self.register_buffer("subspace", None if subspace is None else subspace.float())
        self.register_buffer("within", None if within is None else within.float())

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Scalar of (N, C, *grid) and (N, D, *grid) on the same grid."""
        values = student if self.adapter is None else self.adapter(student.movedim(1, -1)).movedim(-1, 1)
        values, teacher = values * self._per_channel(values), teacher * self._per_channel(teacher)
        if self.within is not None:
            difference = (values - teacher).movedim(1, -1)
            return (difference @ self.within.T.to(difference.dtype)).float().pow(2).mean()
        if self.subspace is None:
            return F.mse_loss(values, teacher.to(values.dtype)).float()
        difference = (values - teacher).movedim(1, -1)
        part = difference @ self.subspace.T.to(difference.dtype)
        rest = difference - part @ self.subspace.to(difference.dtype)
        # Along the subspace per direction, so that its weight does not depend on the width of the layer.
        return rest.float().pow(2).mean() + self.along * part.float().pow(2).mean()

    def _per_channel(self, values: Tensor) -> Tensor:
        return (1 / self.scale).to(values.dtype).reshape(-1, *(1,) * (values.dim() - 2))


def channel_scale(values: Tensor) -> Tensor:
    """Standard deviation of each channel of (N, C, *grid) over samples and positions, bounded away from 0."""
    flat = values.float().transpose(0, 1).flatten(1)
    spread = flat.std(1)
    return spread + 1e-3 * spread.max().clamp_min(1e-6)
