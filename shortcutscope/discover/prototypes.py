"""Prototypes: the ways in which a model decides for a class, and the samples that fit none of them.

PCX (Dreyer et al. 2024, "Understanding the (Extra-)Ordinary"): the relevances of a class's samples at a
layer are a mixture of Gaussians. Each component is a strategy, its prototypes are the samples nearest to its
mean, a sample's negative log-likelihood says how ordinary the decision was, and what differs from the
prototype, channel by channel, says in what it was not.

A layer can have more channels than a class has samples, and no covariance can be estimated then: the mixture
lives in the leading principal components, at most one for every ten samples. The form of the covariances and
the number of components are those of the smallest Bayesian information criterion (Schwarz 1978), among
mixtures in which no component holds less than five samples: a component of its own would make the greatest
outlier an ordinary sample.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.scan.reading import Scan

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

#: Principal components that the mixture is fitted in: at most so many, and samples for each.
PRINCIPAL, SAMPLES_PER_PRINCIPAL = 32, 10
MOST_COMPONENTS = 8
#: Samples that the mixture is fitted on; all are scored.
MOST_FITTED = 10_000
#: Fewest samples of a class, and fewest per component.
FEWEST, FEWEST_PER_COMPONENT = 20, 5
#: Numbers of components without a smaller criterion, after which no larger one is tried.
PATIENCE = 2
#: Prototypes per component.
NEAREST = 6
#: Forms of covariance, simplest first.
FORMS = ("tied", "diag", "full")
#: Rows held in double precision at a time.
BLOCK = 4096
#: Members of a component that is small, or of the outliers: at least so many, at most this share of all.
SMALLEST, LARGEST_SHARE = 8, 0.4


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Mixture of the relevances of one class at one layer. Components are numbered by weight, largest first.

    Attributes
    ----------
    label
        The class; None where it was not said.
    layer
        Name of the layer; empty where it was not said.
    membership
        (n,) likeliest component of each sample.
    prototypes
        (K, m) positions among the n samples, of each component's members nearest to its mean, nearest first;
        -1 where it has fewer members.
    weights
        (K,) of the components.
    outlier
        (n,) negative log-likelihood under the whole mixture, in nats, up to a constant of the layer.
    centres, spreads
        (K, C) mean and standard deviation of the members' relevances.
    rows
        (n,) rows of the samples in `vectors`, and so in the scan.
    sample_ids
        (n,) ids; the positions where there are none.
    form
        Form of the covariances.
    bic
        One row per mixture tried: ``form`` and number of ``components``, its criterion ``bic``, samples in
        its ``smallest`` component, and whether it was ``chosen``.
    n_fitted
        Samples that the mixture was fitted on.
    note
        What a reader must know of how it was made; empty if it was fitted on all samples.
    """

    label: int | None
    layer: str
    membership: Ints
    prototypes: Ints
    weights: Floats
    outlier: Floats
    centres: Floats
    spreads: Floats
    rows: Ints
    sample_ids: npt.NDArray[Any]
    form: str
    bic: pd.DataFrame
    n_fitted: int
    note: str
    projection: _Projection = field(repr=False)
    mixture: GaussianMixture = field(repr=False)
    vectors: npt.NDArray[Any] = field(repr=False)

    @property
    def count(self) -> int:
        """Number of components."""
        return len(self.weights)

    @property
    def percentile(self) -> Floats:
        """(n,) share of the class's samples, in percent, that are no more of an outlier than this one."""
        ranks: Floats = rankdata(self.outlier, method="max")
        return 100 * ranks / len(ranks)

    def assess(self, vectors: npt.NDArray[Any]) -> tuple[Ints, Floats]:
        """Component (m,) and outlier score (m,) of further samples (m, C), such as new images."""
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or vectors.shape[1] != self.centres.shape[1]:
            raise InputError(
                f"vectors have shape {vectors.shape}; relevances (m, {self.centres.shape[1]}) are needed"
            )
        return _assessed(self.projection, self.mixture, vectors, np.arange(len(vectors)))

    def difference(self, sample: int | str, most: int = 10) -> pd.DataFrame:
        """What differs from the prototype: channels, the most different first.

        Parameters
        ----------
        sample
            Position among the n samples, or sample id.
        most
            Most channels.

        Returns
        -------
        frame
            ``channel``, the sample's ``relevance``, that of the ``prototype`` (the mean of the sample's
            component), and ``z``, their difference in standard deviations of the component.

        Raises
        ------
        InputError
            There is no such sample, or fewer than one channel is asked for.
        """
        position = self._position(sample)
        if most < 1:
            raise InputError(f"most is {most}; at least 1 channel is needed")
        component = self.membership[position]
        relevance = np.asarray(self.vectors[self.rows[position]], np.float64)
        prototype, spread = self.centres[component], self.spreads[component]
        z = np.divide(relevance - prototype, spread, out=np.zeros_like(spread), where=spread > 0)
        channels = np.argsort(-np.abs(z), kind="stable")[:most]
        return pd.DataFrame(
            {
                "channel": channels,
                "relevance": relevance[channels],
                "prototype": prototype[channels],
                "z": z[channels],
            }
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per sample: sample_id, component, outlier score, percentile; the greatest outlier first."""
        frame = pd.DataFrame(
            {
                "sample_id": self.sample_ids,
                "component": self.membership,
                "outlier": self.outlier,
                "percentile": self.percentile,
            }
        )
        return frame.sort_values("outlier", ascending=False, kind="stable", ignore_index=True)

    def _position(self, sample: int | str) -> int:
        if isinstance(sample, str):
            found = np.flatnonzero(self.sample_ids == sample)
            if not len(found):
                raise InputError(f"sample {sample!r} is not among the {len(self.rows)} samples of this class")
            return int(found[0])
        if not 0 <= sample < len(self.rows):
            raise InputError(f"sample {sample} is not a position from 0 to {len(self.rows) - 1}")
        return int(sample)


def prototypes(
    scan: Scan,
    layer: str | Layer,
    label: int | None = None,
    *,
    by: str = "label",
    stat: str = "sum",
    **options: Any,
) -> dict[int, Prototypes]:
    """Prototypes of the classes of a scan at one layer.

    Parameters
    ----------
    scan
        With relevances.
    layer
        Name or layer.
    label
        One class; None for every class with at least 20 samples.
    by
        ``"label"``: a class has the samples labelled so; ``"prediction"``: those predicted so.
    stat
        Relevance statistic, see :meth:`shortcutscope.scan.reading.Scan.relevance`.
    **options
        Of :func:`fit_prototypes`.

    Raises
    ------
    InputError
        The scan has no relevance, the class too few samples, or `by` is something else.
    """
    if by not in ("label", "prediction"):
        raise InputError(f"by is {by!r}; allowed are 'label' and 'prediction'")
    name = scan.layer(layer).name
    assigned = scan.samples[by].to_numpy()
    classes, sizes = np.unique(assigned, return_counts=True)
    wanted = [int(c) for c in classes[sizes >= FEWEST]] if label is None else [label]
    if not wanted or label not in (None, *classes):
        known = ", ".join(f"{c} ({size})" for c, size in zip(classes, sizes, strict=True))
        raise InputError(
            f"no samples to fit for label={label!r}; classes by {by}, with their samples: {known}; "
            f"at least {FEWEST} are needed"
        )
    vectors = scan.relevance(name, stat)
    ids = scan.samples["sample_id"].to_numpy()
    fitted = {}
    for c in wanted:
        rows = np.flatnonzero(assigned == c)
        found = fit_prototypes(vectors, rows=rows, **options)
        fitted[c] = replace(found, label=c, layer=name, sample_ids=ids[rows])
    return fitted


def fit_prototypes(
    vectors: npt.NDArray[Any],
    *,
    rows: npt.ArrayLike | None = None,
    components: int | None = None,
    forms: Sequence[str] = FORMS,
    most_components: int = MOST_COMPONENTS,
    most_fitted: int = MOST_FITTED,
    principal: int = PRINCIPAL,
    nearest: int = NEAREST,
    seed: int = 0,
) -> Prototypes:
    """Fit a Gaussian mixture to the relevances of one class.

    Parameters
    ----------
    vectors
        (n, C) relevances; of several classes where `rows` says which are of this one. Kept by reference.
    rows
        Rows of `vectors` that are of the class, ascending; all if None.
    components
        Number of components; None for the one of the smallest criterion.
    forms
        Forms of covariance to choose from, as scikit-learn names them.
    most_components
        Largest number to choose from; also limited to one for every five samples.
    most_fitted
        Samples that the mixture is fitted on, drawn by `seed`. All samples are scored.
    principal
        Principal components that the mixture lives in.
    nearest
        Prototypes per component.
    seed
        Of the draw, the principal components and the mixture's start.

    Raises
    ------
    InputError
        For fewer than 20 samples, values that are not finite, or numbers that cannot be.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2:
        raise InputError(f"vectors of shape {vectors.shape} are given; relevances (n, C) are needed")
    rows = np.asarray(np.arange(len(vectors)) if rows is None else rows, np.int64)
    _check(len(rows), components, most_components, forms)
    chosen = rows
    if len(rows) > most_fitted:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, most_fitted, replace=False))
    projection = _Projection.fitted(vectors[chosen], principal, seed)
    points = projection(vectors, chosen)
    numbers = range(1, min(most_components, len(chosen) // FEWEST_PER_COMPONENT) + 1)
    mixture, bic = _best(points, numbers if components is None else [components], forms, seed)
    membership, outlier = _assessed(projection, mixture, vectors, rows)
    centres, spreads = _moments(vectors, rows, membership, len(mixture.weights_), projection.mean)
    note = ""
    if len(chosen) < len(rows):
        note = f"the mixture was fitted on {len(chosen)} of {len(rows)} samples, drawn at random"
    return Prototypes(
        label=None,
        layer="",
        membership=membership,
        prototypes=_nearest(projection, mixture, vectors, rows, membership, nearest),
        weights=mixture.weights_,
        outlier=outlier,
        centres=centres,
        spreads=spreads,
        rows=rows,
        sample_ids=np.arange(len(rows)),
        form=str(mixture.covariance_type),
        bic=bic,
        n_fitted=len(chosen),
        note=note,
        projection=projection,
        mixture=mixture,
        vectors=vectors,
    )


def rare_members(fitted: Prototypes) -> Iterator[Bools]:
    """Members (n,) of each component that is a small part of its class, and then the far outliers.

    Far outliers are those whose score lies beyond the upper quartile by more than one and a half times the
    distance between the quartiles (Tukey 1977).
    """
    low, high = np.quantile(fitted.outlier, [0.25, 0.75])
    sets = [fitted.membership == k for k in range(fitted.count)]
    for members in [*sets, fitted.outlier > high + 1.5 * (high - low)]:
        if SMALLEST <= members.sum() <= LARGEST_SHARE * len(members):
            yield members


@dataclass(frozen=True, eq=False)
class _Projection:
    """Onto principal components, in units of the first one's standard deviation.

    One unit for all components: the mixture's small constant on the variances means something only where
    relevances are of the order of one.
    """

    pca: PCA
    unit: float

    @classmethod
    def fitted(cls, vectors: npt.NDArray[Any], principal: int, seed: int) -> _Projection:
        if not np.isfinite(vectors).all():
            raise InputError("the relevances hold values that are not finite")
        size = max(1, min(principal, len(vectors) // SAMPLES_PER_PRINCIPAL, vectors.shape[1]))
        solver = "randomized" if min(vectors.shape) > 2 * principal else "full"
        with warnings.catch_warnings():
            # Samples that are all the same have no variance to be a share of.
            warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning)
            pca = PCA(size, svd_solver=solver, random_state=seed).fit(vectors)
        unit = float(np.sqrt(pca.explained_variance_[0]))
        return cls(pca, unit if unit > 0 else 1.0)

    @property
    def mean(self) -> Floats:
        return np.asarray(self.pca.mean_, np.float64)

    def __call__(self, vectors: npt.NDArray[Any], rows: npt.NDArray[np.integer[Any]]) -> Floats:
        """Points (len(rows), D) float64, block by block."""
        blocks = [self.pca.transform(vectors[rows[i : i + BLOCK]]) for i in range(0, len(rows), BLOCK)]
        points: Floats = np.concatenate(blocks).astype(np.float64) / self.unit
        return points


def _check(n: int, components: int | None, most_components: int, forms: Sequence[str]) -> None:
    if n < FEWEST:
        raise InputError(
            f"a mixture cannot be fitted to {n} samples; at least {FEWEST} of a class are needed"
        )
    count = most_components if components is None else components
    if count < 1 or (components is not None and components > n // FEWEST_PER_COMPONENT):
        raise InputError(
            f"{count} components cannot be fitted to {n} samples; allowed are 1 to "
            f"{n // FEWEST_PER_COMPONENT}"
        )
    if not forms or not set(forms) <= {"full", "tied", "diag", "spherical"}:
        raise InputError(
            f"forms of covariance are {list(forms)}; allowed are 'full', 'tied', 'diag', 'spherical'"
        )


def _best(
    points: Floats, numbers: Sequence[int], forms: Sequence[str], seed: int
) -> tuple[GaussianMixture, pd.DataFrame]:
    """The mixture of the smallest criterion, heaviest component first, and the criteria of all."""
    tried: list[dict[str, Any]] = []
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


def _assessed(
    projection: _Projection,
    mixture: GaussianMixture,
    vectors: npt.NDArray[Any],
    rows: npt.NDArray[np.integer[Any]],
) -> tuple[Ints, Floats]:
    points = projection(vectors, rows)
    if not np.isfinite(points).all():
        raise InputError("the relevances hold values that are not finite")
    return mixture.predict(points).astype(np.int64), -mixture.score_samples(points)


def _nearest(
    projection: _Projection,
    mixture: GaussianMixture,
    vectors: npt.NDArray[Any],
    rows: npt.NDArray[np.integer[Any]],
    membership: Ints,
    nearest: int,
) -> Ints:
    points = projection(vectors, rows)
    found = np.full((len(mixture.means_), nearest), -1, np.int64)
    for k, mean in enumerate(mixture.means_):
        members = np.flatnonzero(membership == k)
        distance = np.linalg.norm(points[members] - mean, axis=1)
        first = members[np.argsort(distance, kind="stable")[:nearest]]
        found[k, : len(first)] = first
    return found


def _moments(
    vectors: npt.NDArray[Any],
    rows: npt.NDArray[np.integer[Any]],
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
