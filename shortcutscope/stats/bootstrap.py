"""Bootstrap over patients: the unit that is drawn again is the cluster, not the image.

Images of one patient are alike; drawing them one by one would make intervals too narrow (Field & Welsh 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shortcutscope.errors import InputError
from shortcutscope.types import Array, Floats, Ints

#: With fewer clusters the percentile interval is far too narrow, so that none is given.
MIN_CLUSTERS = 10
#: Multiplicities that are held at a time.
_BLOCK = 1 << 20
#: Draws that are kept for the next statistic: 4 MiB.
_MOST_KEPT = 1 << 20


def cluster_weights(groups: npt.ArrayLike, n: int, seed: int) -> Ints:
    """Multiplicities of the samples in ``n`` resamples of whole groups with replacement.

    Parameters
    ----------
    groups
        ``(N,)`` group (patient) of each sample.
    n
        Number of resamples.
    seed
        Seed of the draws.

    Returns
    -------
    array of shape (n, N)
        How often each sample occurs; the same within a group.
    """
    groups = _checked(groups)
    return next(_resamples(groups, n, seed, max(1, n)))


def group_draws(n_groups: int, n: int, seed: int) -> npt.NDArray[np.uint8]:
    """Multiplicities ``(n, n_groups)`` of whole groups in resamples: as :func:`cluster_weights`, a byte each.

    Parameters
    ----------
    n_groups
        Number of groups.
    n
        Number of resamples.
    seed
        Seed of the draws.
    """
    blocks = _resamples(np.arange(n_groups), n, seed, max(1, _BLOCK // n_groups))
    return np.concatenate([np.minimum(block, 255).astype(np.uint8) for block in blocks])


def _resamples(groups: Array, n: int, seed: int, step: int) -> Iterator[Ints]:
    """Multiplicities of ``n`` resamples, ``step`` of them at a time; the same whatever the step."""
    if n < 1:
        raise InputError(f"cluster_weights: n={n} resamples; at least 1 is needed")
    _, member = np.unique(groups, return_inverse=True)
    n_groups = int(member.max()) + 1
    drawn = _draws(n_groups, n, seed, step)
    if n * n_groups <= _MOST_KEPT:
        every = _kept_draws(n_groups, n, seed)
        drawn = (every[:, begin : begin + step] for begin in range(0, n, step))
    for counts in drawn:
        # Transposed: who weighs many resamples by them goes through the samples.
        yield np.take(counts, member, axis=0).T


def _draws(n_groups: int, n: int, seed: int, step: int) -> Iterator[Ints]:
    """How often each group is drawn ``(n_groups, step)``."""
    rng = np.random.default_rng(seed)
    for begin in range(0, n, step):
        size = min(step, n - begin)
        draws = rng.integers(n_groups, size=(size, n_groups))
        draws += np.arange(size)[:, None] * n_groups
        counts = np.bincount(draws.ravel(), minlength=size * n_groups).reshape(size, n_groups)
        yield counts.T.astype(np.int32, order="C")


@lru_cache(maxsize=8)
def _kept_draws(n_groups: int, n: int, seed: int) -> Ints:
    """All of a few draws: all concepts and layers of an audit ask for the same ones."""
    return next(_draws(n_groups, n, seed, max(1, n)))


def cluster_interval(
    statistic: Callable[[Array], Any],
    groups: npt.ArrayLike,
    n: int = 500,
    level: float = 0.95,
    seed: int = 0,
    *,
    by: Literal["weights", "rows", "indices"] = "weights",
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic, resampling whole groups.

    Parameters
    ----------
    statistic
        Called with what ``by`` says: ``"weights"``, multiplicities ``(N,)`` -> float; ``"rows"``, many of
        them at once, ``(b, N)`` -> ``(b,)``; ``"indices"``, sample indices with repetitions -> float.
        It may be NaN on a resample; such resamples are left out.
    groups
        ``(N,)`` group (patient) of each sample.
    n, level, seed
        Number of resamples, coverage in (0, 1), seed.
    by
        See ``statistic``.

    Returns
    -------
    (low, high)
        ``(nan, nan)`` with fewer than 10 groups, or where the statistic is NaN on more than half of the
        resamples: an interval from so little would claim a certainty that the data do not have.

    Raises
    ------
    InputError
        For an empty ``groups``, a level outside (0, 1), or an unknown ``by``.
    """
    if by not in ("weights", "rows", "indices"):
        raise InputError(f"cluster_interval: by={by!r}; allowed are 'weights', 'rows' and 'indices'")
    samples = np.arange(len(np.asarray(groups)))

    def of_rows(weights: Array) -> Any:
        if by == "rows":
            return statistic(weights)
        return [statistic(row if by == "weights" else np.repeat(samples, row)) for row in weights]

    return cluster_intervals([of_rows], groups, n, level, seed)[0]


def cluster_intervals(
    statistics: Sequence[Callable[[Array], Any]],
    groups: npt.ArrayLike,
    n: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """:func:`cluster_interval` of several statistics of multiplicities ``(b, N)``, on the same resamples."""
    groups = _checked(groups)
    if not 0 < level < 1:
        raise InputError(f"cluster_interval: level={level}; it must lie between 0 and 1, for example .95")
    if len(np.unique(groups)) < MIN_CLUSTERS:
        return [(float("nan"), float("nan"))] * len(statistics)
    values: list[list[Floats]] = [[] for _ in statistics]
    for weights in _resamples(groups, n, seed, max(1, _BLOCK // len(groups))):
        for statistic, found in zip(statistics, values, strict=True):
            found.append(np.asarray(statistic(weights), np.float64))
    return [percentile_interval(np.concatenate(found), level) for found in values]


def percentile_interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Central interval of resampled values; ``(nan, nan)`` where more than half of them are NaN."""
    values = np.asarray(values, np.float64)
    defined = values[~np.isnan(values)]
    if len(defined) == 0 or 2 * len(defined) < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked(groups: npt.ArrayLike) -> Array:
    groups = np.asarray(groups)
    if groups.ndim != 1 or len(groups) == 0:
        raise InputError(f"groups of shape {groups.shape}; one group (patient) a sample is needed, (N,)")
    return groups
