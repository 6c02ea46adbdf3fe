"""Where the association of a concept with the label is measured: in the training samples, if they say."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from shortcutscope.audit.audited_data import AuditedData
from shortcutscope.errors import InputError
from shortcutscope.probes.association import Association, associate, recorded
from shortcutscope.probes.concept import Concept
from shortcutscope.types import Floats

#: Why a concept is not testable of which `association_if_any` is None.
NO_ASSOCIATION = (
    "its association with the label cannot be measured: all samples that know the concept are of the class "
    "that effects refer to, or none is. Add values of samples of both"
)


@dataclass(frozen=True, eq=False)
class ConceptValues:
    """What a concept says of the samples.

    Attributes
    ----------
    training
        Of those of ``audited.reference``; None where it knows none of them.
    audited
        Of those that were scored.
    """

    training: Floats | None
    audited: Floats


def association_if_any(
    concept: Concept,
    audited: AuditedData,
    samples: pd.DataFrame,
    *,
    positive: int | None,
    n_bootstrap: int,
    seed: int,
    values: ConceptValues | None = None,
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
    values
        Of the concept, where they were looked up already.

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
        found = _measured(values or _values_of(concept, audited, samples), audited, samples, measure)
    except InputError:
        return None
    return found if np.isfinite(found[0].phi) else None


def training_values(concept: Concept, audited: AuditedData) -> Floats | None:
    """Of the training samples; None where there are none, or the concept knows none of them."""
    if audited.reference is None:
        return None
    ids = audited.reference.frame["sample_id"]
    return concept.aligned_to(ids).values if ids.isin(concept.sample_ids).any() else None


def _values_of(concept: Concept, audited: AuditedData, samples: pd.DataFrame) -> ConceptValues:
    training = training_values(concept, audited)
    return ConceptValues(training, concept.aligned_to(samples["sample_id"]).values)


def _measured(
    values: ConceptValues, audited: AuditedData, samples: pd.DataFrame, measure: partial[Association]
) -> tuple[Association, str]:
    reference, carries = audited.reference, values.training
    if reference is not None and carries is not None:
        labels = reference.frame["label"].to_numpy()
        finite = np.isfinite(carries)
        if len(np.unique(carries[finite])) == 2 and len(np.unique(labels[finite])) >= 2:
            return measure(carries, labels, audited.reference_groups), "training split"
    labels = samples["label"].to_numpy().astype(np.int64)
    return measure(values.audited, labels, samples["group"].to_numpy()), "audited data"
