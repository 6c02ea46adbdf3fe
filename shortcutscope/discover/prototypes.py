"""Prototypes: the ways in which a model decides for a class, and the samples that fit none of them.

PCX (Dreyer et al. 2024, "Understanding the (Extra-)Ordinary"): the relevances of a class's samples at a
layer are a mixture of Gaussians. Each component is a strategy, its prototypes are the samples nearest to its
mean, a sample's negative log-likelihood says how ordinary the decision was, and what differs from the
prototype, channel by channel, says in what it was not.

How the mixture is fitted, where there are more channels than samples, too: see
`shortcutscope.discover.gaussians`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata
from sklearn.mixture import GaussianMixture

from shortcutscope.discover.gaussians import (
    FEWEST_PER_COMPONENT,
    FORMS,
    PRINCIPAL,
    PrincipalProjection,
    assess,
    best_mixture,
    member_moments,
)
from shortcutscope.errors import InputError
from shortcutscope.models.layers import Layer
from shortcutscope.scan.reading import Scan
from shortcutscope.types import Array, Bools, Floats, Ints

MOST_COMPONENTS = 8
#: Samples that the mixture is fitted on; all are scored.
MOST_FITTED = 10_000
#: Fewest samples of a class.
FEWEST = 20
#: Prototypes per component.
NEAREST = 6
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
    sample_ids: Array
    form: str
    bic: pd.DataFrame
    n_fitted: int
    note: str
    projection: PrincipalProjection = field(repr=False)
    mixture: GaussianMixture = field(repr=False)
    vectors: Array = field(repr=False)

    @property
    def count(self) -> int:
        """Number of components."""
        return len(self.weights)

    @property
    def percentile(self) -> Floats:
        """(n,) share of the class's samples, in percent, that are no more of an outlier than this one."""
        ranks: Floats = rankdata(self.outlier, method="max")
        return 100 * ranks / len(ranks)

    def assess(self, vectors: Array) -> tuple[Ints, Floats]:
        """Component (m,) and outlier score (m,) of further samples (m, C), such as new images."""
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or vectors.shape[1] != self.centres.shape[1]:
            raise InputError(
                f"vectors have shape {vectors.shape}; relevances (m, {self.centres.shape[1]}) are needed"
            )
        return assess(self.mixture, self.projection(vectors, np.arange(len(vectors))))

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
            places = np.flatnonzero(self.sample_ids == sample)
            if not len(places):
                raise InputError(f"sample {sample!r} is not among the {len(self.rows)} samples of this class")
            return int(places[0])
        if not 0 <= sample < len(self.rows):
            raise InputError(f"sample {sample} is not a position from 0 to {len(self.rows) - 1}")
        return int(sample)


class MixtureOptions(TypedDict, total=False):
    """How the mixture is fitted, see `fit_prototypes`."""

    components: int | None
    forms: Sequence[str]
    most_components: int
    most_fitted: int
    nearest: int
    seed: int


def prototypes(
    scan: Scan,
    layer: str | Layer,
    label: int | None = None,
    *,
    by: str = "label",
    stat: str = "sum",
    **options: Unpack[MixtureOptions],
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
    selection = [int(c) for c in classes[sizes >= FEWEST]] if label is None else [label]
    if not selection or label not in (None, *classes):
        listing = ", ".join(f"{c} ({size})" for c, size in zip(classes, sizes, strict=True))
        raise InputError(
            f"no samples to fit for label={label!r}; classes by {by}, with their samples: {listing}; "
            f"at least {FEWEST} are needed"
        )
    vectors = scan.relevance(name, stat)
    ids = scan.samples["sample_id"].to_numpy()
    by_class = {}
    for c in selection:
        rows = np.flatnonzero(assigned == c)
        result = fit_prototypes(vectors, rows=rows, **options)
        by_class[c] = replace(result, label=c, layer=name, sample_ids=ids[rows])
    return by_class


def fit_prototypes(
    vectors: Array,
    *,
    rows: npt.ArrayLike | None = None,
    components: int | None = None,
    forms: Sequence[str] = FORMS,
    most_components: int = MOST_COMPONENTS,
    most_fitted: int = MOST_FITTED,
    nearest: int = NEAREST,
    seed: int = 0,
) -> Prototypes:
    """Fit a Gaussian mixture to the relevances of one class.

    Parameters
    ----------
    vectors
        (n, C) relevances; of several classes where `rows` says which are of this one. Kept by reference.
    rows
        Rows of `vectors` that are of the class; all if None.
    components
        Number of components; None for the one of the smallest criterion.
    forms
        Forms of covariance to choose from, as scikit-learn names them.
    most_components
        Largest number to choose from; also limited to one for every five samples.
    most_fitted
        Samples that the mixture is fitted on, drawn by `seed`. All samples are scored.
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
    subset = np.arange(len(rows))
    if len(rows) > most_fitted:
        subset = np.sort(np.random.default_rng(seed).choice(subset, most_fitted, replace=False))
    projection = PrincipalProjection.fitted(vectors[rows[subset]], PRINCIPAL, seed)
    points = projection(vectors, rows)
    numbers = range(1, min(most_components, len(subset) // FEWEST_PER_COMPONENT) + 1)
    tried = numbers if components is None else [components]
    mixture, bic = best_mixture(points[subset], tried, forms, seed)
    return _prototypes(vectors, rows, points, projection, mixture, bic, nearest, len(subset))


def _prototypes(
    vectors: Array,
    rows: Ints,
    points: Floats,
    projection: PrincipalProjection,
    mixture: GaussianMixture,
    bic: pd.DataFrame,
    nearest: int,
    n_fitted: int,
) -> Prototypes:
    """What a mixture says of the samples (n, of `rows`), whose points it lives among."""
    membership, outlier = assess(mixture, points)
    centres, spreads = member_moments(vectors, rows, membership, len(mixture.weights_), projection.mean)
    note = ""
    if n_fitted < len(rows):
        note = f"the mixture was fitted on {n_fitted} of {len(rows)} samples, drawn at random"
    return Prototypes(
        label=None,
        layer="",
        membership=membership,
        prototypes=_nearest(points, mixture, membership, nearest),
        weights=mixture.weights_,
        outlier=outlier,
        centres=centres,
        spreads=spreads,
        rows=rows,
        sample_ids=np.arange(len(rows)),
        form=str(mixture.covariance_type),
        bic=bic,
        n_fitted=n_fitted,
        note=note,
        projection=projection,
        mixture=mixture,
        vectors=vectors,
    )


def rare_members(mixture: Prototypes) -> Iterator[Bools]:
    """Members (n,) of each component that is a small part of its class, and then the far outliers.

    Far outliers are those whose score lies beyond the upper quartile by more than one and a half times the
    distance between the quartiles (Tukey 1977).
    """
    low, high = np.quantile(mixture.outlier, [0.25, 0.75])
    sets = [mixture.membership == k for k in range(mixture.count)]
    for members in [*sets, mixture.outlier > high + 1.5 * (high - low)]:
        if SMALLEST <= members.sum() <= LARGEST_SHARE * len(members):
            yield members


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


def _nearest(points: Floats, mixture: GaussianMixture, membership: Ints, nearest: int) -> Ints:
    """Prototypes (K, nearest) of each component, -1 where it has fewer members."""
    indices = np.full((len(mixture.means_), nearest), -1, np.int64)
    for k, mean in enumerate(mixture.means_):
        members = np.flatnonzero(membership == k)
        distance = np.linalg.norm(points[members] - mean, axis=1)
        first = members[np.argsort(distance, kind="stable")[:nearest]]
        indices[k, : len(first)] = first
    return indices
