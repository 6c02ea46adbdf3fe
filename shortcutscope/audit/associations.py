"""Where the association of a concept with the label is measured: in the training samples, if they say."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from shortcutscope.audit.audited_data import AuditedData
from shortcutscope.errors import InputError
from shortcutscope.probes.association import Association, associate, recorded
from shortcutscope.probes.concept import Concept

#: Why a concept is not testable of which `association_if_any` is None.
NO_ASSOCIATION = (
    "its association with the label cannot be measured: all samples that know the concept are of the class "
    "that effects refer to, or none is. Add values of samples of both"
)


def association_if_any(
    concept: Concept,
    audited: AuditedData,
    samples: pd.DataFrame,
    *,
    positive: int | None,
    n_bootstrap: int,
    seed: int,
) -> tuple[Association, str] | None:
    """Association in the training samples if they know the concept, else in the audited ones; and which.

    Parameters
    ----------
    concept
        Over audited and training samples.
    audited
        With the training samples.
    samples
        The audited ones that were scored: sample_id, label and group.
    positive, n_bootstrap, seed
        As in `shortcutscope.probes.association.associate`.

    Returns
    -------
    tuple or None
        None where those that know it do not have two values of it and two classes.
    """
    earlier = recorded(audited.associations.get(concept.name, {}))
    if earlier is not None and positive in (None, earlier.positive):
        return earlier, "earlier audit"
    measure = partial(associate, positive=positive, n_bootstrap=n_bootstrap, seed=seed)
    try:
        found = _measured(concept, audited, samples, measure)
    except InputError:
        return None
    return found if np.isfinite(found[0].phi) else None


def _measured(
    concept: Concept, audited: AuditedData, samples: pd.DataFrame, measure: partial[Association]
) -> tuple[Association, str]:
    reference = audited.reference
    if reference is not None and reference.frame["sample_id"].isin(concept.sample_ids).any():
        carries = concept.aligned_to(reference.frame["sample_id"]).values
        labels = reference.frame["label"].to_numpy()
        finite = np.isfinite(carries)
        if len(np.unique(carries[finite])) == 2 and len(np.unique(labels[finite])) >= 2:
            return measure(carries, labels, reference.frame["group"].to_numpy()), "training split"
    values = concept.aligned_to(samples["sample_id"]).values
    labels = samples["label"].to_numpy().astype(np.int64)
    return measure(values, labels, samples["group"].to_numpy()), "audited data"
