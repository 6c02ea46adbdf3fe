"""Every (label, concept) group made to count alike, by weights or by how often it is drawn."""

from __future__ import annotations

from shortcutscope.debias.budget import train
from shortcutscope.debias.groups import Groups, balanced_weights, reweighing_weights, training_groups
from shortcutscope.debias.materials import Materials, Outcome
from shortcutscope.debias.objective import CrossEntropy


def reweighing(materials: Materials) -> Outcome:
    """Cross-entropy weighted by P(y) P(a) / P(y, a) (Kamiran & Calders 2012, reweighing).

    Sees labels and the concept of the biased samples. Keeps how frequent each class and the concept are.

    Raises
    ------
    InputError
        Without concept labels, or with an empty group.
    """
    groups = training_groups(materials, "reweighing")
    objective = CrossEntropy(reweighing_weights(groups))
    return train(materials, objective, "reweighing", notes=groups.notes, details=_sizes(groups))


def group_balanced(materials: Materials) -> Outcome:
    """Cross-entropy on batches in which every (label, concept) group is drawn equally often.

    Sees labels and the concept of the biased samples. Sagawa et al. 2020 ("An investigation of why
    overparameterization exacerbates spurious correlations") and Idrissi et al. 2022 (RWG).

    Raises
    ------
    InputError
        Without concept labels, or with an empty group.
    """
    groups = training_groups(materials, "group-balanced")
    objective = CrossEntropy(draws=balanced_weights(groups))
    return train(materials, objective, "group-balanced", notes=groups.notes, details=_sizes(groups))


def group_balanced_ce(materials: Materials) -> Outcome:
    """Cross-entropy in which every (label, concept) group weighs the same.

    As `group_balanced`, by weights instead of draws (Sagawa et al. 2020, importance weighting): samples of
    small groups are seen as often as others, and count more.

    Raises
    ------
    InputError
        Without concept labels, or with an empty group.
    """
    groups = training_groups(materials, "group-balanced-ce")
    objective = CrossEntropy(balanced_weights(groups))
    return train(materials, objective, "group-balanced-ce", notes=groups.notes, details=_sizes(groups))


def _sizes(groups: Groups) -> dict[str, object]:
    return {"groups": dict(zip(groups.names, groups.counts.tolist(), strict=True))}
