"""Two measures of data that say how much a supervision leaves to a spurious feature (Saab et al. 2022).

The paper's theory is about both: more specific supervision lowers the variance of what is called positive,
and the mutual information of abnormal and spurious pixels. Its estimators could not be had; these are plain
ones.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import entropy

from shortcutscope.types import Array, Bools


def positive_variance(images: Array, positive: Bools) -> float:
    """Variance of the pixels that are called positive, as a share of the variance of all pixels.

    Parameters
    ----------
    images
        (N, H, W).
    positive
        (N, H, W), at least one pixel.
    """
    images = np.asarray(images, np.float64)
    return float(images[positive].var() / images.var())


def spurious_information(positive: Bools, spurious: Bools) -> float:
    """What the label of a pixel tells of its being spurious: mutual information over the spurious entropy.

    Parameters
    ----------
    positive
        (N, H, W) which pixels are called positive.
    spurious
        (N, H, W) which belong to the spurious feature; some, but not all.

    Returns
    -------
    float
        0: nothing. 1: everything.
    """
    joint = np.bincount(2 * positive.ravel().astype(np.int64) + spurious.ravel(), minlength=4)
    shares = joint.reshape(2, 2) / joint.sum()
    of_spurious = entropy(shares.sum(axis=0))
    information = entropy(shares.sum(axis=1)) + of_spurious - entropy(shares.ravel())
    return float(max(information, 0.0) / of_spurious)
