"""Labels that may be wrong, by confident learning: a concept that is used may be the right label."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from shortcutscope.probes.crossfit import make_folds
from shortcutscope.types import Array, Bools, Floats, Ints

#: Share of the samples that go against a concept whose label must be doubtful for the concept to be so.
DOUBTFUL = 0.5
#: Samples that go against it, at least.
FEWEST = 5
#: Inverse of the penalty of the classifier.
STRENGTH = 0.01


def doubtful_labels(features: Floats, labels: Ints, groups: Array, *, seed: int = 0) -> Bools:
    """Find labels that a classifier on a layer takes for wrong: confident learning (Northcutt et al. 2021).

    Each sample is given the probabilities of a logistic regression that was fitted on other patients. It
    belongs to the class of the largest probability among those that reach the mean probability of the class's
    own samples; its label is doubtful where that is another class.

    Parameters
    ----------
    features
        (N, D) of a layer.
    labels, groups
        (N,) class and patient.

    Returns
    -------
    doubtful
        (N,)
    """
    folds = make_folds(labels, groups, n_folds=4, seed=seed)
    classes, codes = np.unique(labels, return_inverse=True)
    probability = np.zeros((len(labels), len(classes)))
    for fold in np.unique(folds):
        train = folds != fold
        if len(np.unique(codes[train])) < 2:
            continue
        mean, spread = features[train].mean(0), features[train].std(0)
        scaled = (features - mean) / (spread + 1e-6 * max(1.0, float(spread.max())))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # near the best is near enough
            model = LogisticRegression(C=STRENGTH, max_iter=500).fit(scaled[train], codes[train])
        probability[np.ix_(~train, model.classes_)] = model.predict_proba(scaled[~train])
    usual = np.array([probability[codes == k, k].mean() for k in range(len(classes))])
    usual[usual == 0] = np.inf  # no fold could learn it
    sure = np.where(probability >= usual, probability, -1.0)
    return np.asarray((sure.max(axis=1) >= 0) & (sure.argmax(axis=1) != codes))


def doubtful_conflicts(concept: Floats, positive: Bools, phi: float, doubtful: Bools) -> Ints:
    """The samples that go against a concept and have a doubtful label, if these are half of them.

    Parameters
    ----------
    concept
        (N,) 0, 1 or NaN.
    positive
        (N,) whether a sample is of the class that the concept goes with.
    phi
        Whose sign says in which direction.
    doubtful
        (N,) of `doubtful_labels`.

    Returns
    -------
    rows
        Empty where fewer than half of at least five such samples have a doubtful label.
    """
    agrees = (concept == 1) == positive
    against = np.isfinite(concept) & (agrees == (phi < 0))
    rows = np.flatnonzero(against & doubtful)
    is_suspect = against.sum() >= FEWEST and len(rows) >= DOUBTFUL * against.sum()
    return rows if is_suspect else rows[:0]
