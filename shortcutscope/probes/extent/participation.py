"""The participation ratio: over what share of the positions does a response spread?"""

from __future__ import annotations

import numpy as np

from shortcutscope.types import Array, Floats


def participation_ratio(response: Floats, reference: Array) -> Floats:
    """Share of the positions over which each sample's response exceeds the reference.

    The response is standardised at every position by the reference samples' mean and standard
    deviation; ``PR = (sum e)^2 / (P sum e^2)`` with ``e = max(z, 0)^2``.

    Parameters
    ----------
    response : ndarray
        (N, P).
    reference : ndarray
        (N,) bool.
    """
    spread = response[reference].std(0)
    z = (response - response[reference].mean(0)) / (spread + 0.05 * spread.mean() + 1e-12)
    e = np.clip(z, 0, None) ** 2
    ratio: Floats = e.sum(1) ** 2 / (e.shape[1] * (e**2).sum(1) + 1e-12)
    return ratio


def participation_change(response: Floats, concept: Floats, labels: Array, present: int) -> float:
    """Median participation ratio of the samples with the value called present, minus that of the others.

    Parameters
    ----------
    response : ndarray
        (N, P) response along the concept's vector, larger where the concept is 1.
    present : int
        Which value is called present: 1, or 0 for the other direction.
    """
    signed = response if present == 1 else -response
    ratio = participation_ratio(signed, concept != present)
    changes = [
        np.median(ratio[(labels == c) & (concept == present)])
        - np.median(ratio[(labels == c) & (concept != present)])
        for c in np.unique(labels)
        if np.unique(concept[labels == c]).size == 2
    ]
    return float(np.mean(changes)) if changes else float("nan")
