"""Every (label, concept) group made to count alike, by weights or by how often it is drawn."""

from __future__ import annotations

from typing import Annotated

from shortcutscope.allowed import Number
from shortcutscope.debias.budget import budget, train
from shortcutscope.debias.groups import Groups, balanced_weights, reweighing_weights, training_groups
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.samples import CLEAN_SHARE, TrainingSamples
from shortcutscope.debias.teacher import train_teacher
from shortcutscope.debias.training.settings import Start


def reweighing(problem: DebiasProblem) -> Outcome:
    """Cross-entropy weighted by P(y) P(a) / P(y, a) (Kamiran & Calders 2012, reweighing).

    Sees labels and the concept of the biased samples. Keeps how frequent each class and the concept are.

    Raises
    ------
    InputError
        Without concept labels, or with an empty group.
    """
    groups = training_groups(problem, "reweighing")
    objective = CrossEntropy(reweighing_weights(groups))
    return train(problem, objective, "reweighing").with_notes(groups.notes, _sizes(groups))


def group_balanced(problem: DebiasProblem) -> Outcome:
    """Cross-entropy on batches in which every (label, concept) group is drawn equally often.

    Sees labels and the concept of the biased samples. Sagawa et al. 2020 ("An investigation of why
    overparameterization exacerbates spurious correlations") and Idrissi et al. 2022 (RWG).

    Raises
    ------
    InputError
        Without concept labels, or with an empty group.
    """
    groups = training_groups(problem, "group-balanced")
    objective = CrossEntropy(draws=balanced_weights(groups))
    return train(problem, objective, "group-balanced").with_notes(groups.notes, _sizes(groups))


def group_balanced_ce(problem: DebiasProblem) -> Outcome:
    """Cross-entropy in which every (label, concept) group weighs the same.

    As `group_balanced`, by weights instead of draws (Sagawa et al. 2020, importance weighting): samples of
    small groups are seen as often as others, and count more.

    Raises
    ------
    InputError
        Without concept labels, or with an empty group.
    """
    groups = training_groups(problem, "group-balanced-ce")
    objective = CrossEntropy(balanced_weights(groups))
    return train(problem, objective, "group-balanced-ce").with_notes(groups.notes, _sizes(groups))


def balanced_finetune(
    problem: DebiasProblem,
    *,
    clean_share: Annotated[float, Number(0, 1, whole=False, above=True, below=True)] = CLEAN_SHARE,
    start: Start = "model",
) -> Outcome:
    """The biased network fine-tuned on the clean samples, then on all, every group weighing the same.

    Sees labels and the concept of the biased samples, and of the clean ones where it is known. It is what
    `balanced-distillation` is without distillation: the student that begins as its teacher, without any
    term of the teacher's.

    Parameters
    ----------
    problem
        With `clean` and `carries`.
    clean_share
        Share of the clean samples in what is drawn, above 0 and below 1.
    start
        ``"fresh"`` begins with new weights instead of those of the biased network.

    Raises
    ------
    InputError
        Without clean samples of every class, without concept labels, or with an empty group.
    """
    samples = TrainingSamples.of(problem, clean_share).group_balanced(problem, "balanced-finetune")
    first = train_teacher(problem, start=start)
    outcome = train(
        problem,
        CrossEntropy(samples.label_weights, samples.draws),
        "balanced-finetune",
        table=samples.table,
        model=first.model.requires_grad_(True),
        training=budget(problem, start=start),
    )
    note = (
        f"it was trained on the {first.n_clean} clean samples first; these are {clean_share:.0%} of "
        "what is drawn in the steps counted here"
    )
    return outcome.with_notes([note, *first.notes])


def _sizes(groups: Groups) -> dict[str, object]:
    return {"groups": dict(zip(groups.names, groups.counts.tolist(), strict=True))}
