"""Gaussian mixtures of samples with more channels than there are samples.

No covariance can be estimated in all channels, so the mixture lives in the leading principal components. The
form of the covariances and the number of components are those of the smallest Bayesian information criterion
(Schwarz 1978), among mixtures in which no component holds less than five samples: a component of its own
would make the greatest outlier an ordinary sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from shortcutscope.errors import InputError
from shortcutscope.probes.alive import ROUNDING, size_of
from shortcutscope.types import Array, Floats, Ints, Record

#: Principal components that a mixture is fitted in: at most so many, and samples for each.
PRINCIPAL, SAMPLES_PER_PRINCIPAL = 32, 10
#: Fewest samples in a component.
FEWEST_PER_COMPONENT = 5
#: Forms of covariance, simplest first.
FORMS = ("tied", "diag", "full")
#: Numbers of components without a smaller criterion, after which no larger one is tried.
PATIENCE = 2
#: Rows held in single or double precision at a time.
BLOCK = 4096


@dataclass(frozen=True, eq=False)
class PrincipalProjection:
    """Onto principal components, in units of the first one's standard deviation.

    One unit for all components: the mixture's small constant on the variances means something only where
    relevances are of the order of one.
    """

    pca: PCA
    unit: float

    @classmethod
    def fitted(cls, vectors: Array, principal: int, seed: int) -> PrincipalProjection:
        """Fit on vectors (n, C); at most `principal` components, and one for every ten samples.

        Raises
        ------
        InputError
            For values that are not finite.
        """
        _require_finite(vectors)
        size = max(1, min(principal, len(vectors) // SAMPLES_PER_PRINCIPAL, vectors.shape[1]))
        solver = "randomized" if min(vectors.shape) > 2 * principal else "full"
        with warnings.catch_warnings():
            # Samples that are all the same have no variance to be a share of.
            warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning)
            pca = PCA(size, svd_solver=solver, random_state=seed).fit(vectors.astype(np.float32, copy=False))
        unit = float(np.sqrt(pca.explained_variance_[0]))
        return cls(pca, unit if unit > ROUNDING * float(size_of(vectors).max(initial=0.0)) else 1.0)

    @property
    def mean(self) -> Floats:
        """Mean (C,) of the vectors that it was fitted on."""
        return np.asarray(self.pca.mean_, np.float64)

    def __call__(self, vectors: Array, rows: Ints) -> Floats:
        """Points (len(rows), D) float64, block by block."""
        blocks = [self._projected(vectors[rows[i : i + BLOCK]]) for i in range(0, len(rows), BLOCK)]
        points: Floats = np.concatenate(blocks).astype(np.float64) / self.unit
        return points

    def _projected(self, block: Array) -> Array:
        _require_finite(block)
        points: Array = self.pca.transform(block.astype(np.float32, copy=False))
        return points


def _require_finite(vectors: Array) -> None:
    if not np.isfinite(vectors).all():
        raise InputError("the relevances hold values that are not finite")


def best_mixture(
    points: Floats, numbers: Sequence[int], forms: Sequence[str], seed: int
) -> tuple[GaussianMixture, pd.DataFrame]:
    """The mixture of the smallest criterion, its heaviest component first, and the criteria of all tried.

    Parameters
    ----------
    points
        (n, D).
    numbers
        Of components to choose from, ascending; a single one is taken as it is.
    forms
        Of covariance, as scikit-learn names them.
    seed
        Of the starts.

    Returns
    -------
    mixture
        Fitted.
    criteria
        One row per mixture tried: ``form``, ``components``, ``bic``, samples in the ``smallest`` component,
        and whether it was ``chosen``.
    """
    tried: list[Record] = []
    mixtures = []
    for form in forms:
        lowest, worse = np.inf, 0
        for number in numbers:
            mixture = GaussianMixture(number, covariance_type=form, random_state=seed, max_iter=200)
            with warnings.catch_warnings():
                # Fits that stop early, or find fewer distinct samples than components, are judged alike.
                warnings.simplefilter("ignore", ConvergenceWarning)
                criterion = float(mixture.fit(points).bic(points))
            smallest = float(mixture.weights_.min() * len(points))
            tried.append({"form": form, "components": number, "bic": criterion, "smallest": smallest})
            mixtures.append(mixture)
            lowest, worse = (criterion, 0) if criterion < lowest else (lowest, worse + 1)
            if worse == PATIENCE:
                break
    frame = pd.DataFrame(tried)
    allowed = (frame["smallest"] >= FEWEST_PER_COMPONENT) | (len(numbers) == 1)
    frame["chosen"] = frame.index == frame["bic"].where(allowed, np.inf).idxmin()
    return _heaviest_first(mixtures[int(frame["chosen"].argmax())]), frame


def _heaviest_first(mixture: GaussianMixture) -> GaussianMixture:
    order = np.argsort(-mixture.weights_, kind="stable")
    each = ["weights_", "means_"]
    if mixture.covariance_type != "tied":
        each += ["covariances_", "precisions_cholesky_", "precisions_"]
    for name in each:
        setattr(mixture, name, getattr(mixture, name)[order])
    return mixture


def assess(mixture: GaussianMixture, points: Floats) -> tuple[Ints, Floats]:
    """Component and negative log-likelihood of points, block by block."""
    blocks = [points[i : i + BLOCK] for i in range(0, len(points), BLOCK)]
    membership = np.concatenate([mixture.predict(block) for block in blocks]).astype(np.int64)
    return membership, -np.concatenate([mixture.score_samples(block) for block in blocks])


def member_moments(
    vectors: Array,
    rows: Ints,
    membership: Ints,
    count: int,
    origin: Floats,
) -> tuple[Floats, Floats]:
    """Mean and standard deviation (K, C) of the members' relevances, in one pass over blocks.

    Sums are taken from an origin amid the samples, where squares do not cancel. A component of a single
    member has the spread of the class.
    """
    sums, squares = np.zeros((2, count, vectors.shape[1]))
    for i in range(0, len(rows), BLOCK):
        block = vectors[rows[i : i + BLOCK]].astype(np.float64) - origin
        member = (membership[i : i + BLOCK] == np.arange(count)[:, None]).astype(np.float64)
        sums += member @ block
        squares += member @ block**2
    sizes = np.bincount(membership, minlength=count)[:, None]
    means = sums / np.maximum(sizes, 1)
    variances = squares / np.maximum(sizes, 1) - means**2
    overall = squares.sum(0) / len(rows) - (sums.sum(0) / len(rows)) ** 2
    variances = np.where(sizes > 1, variances, overall)
    return means + origin, np.sqrt(np.maximum(variances, 0))
