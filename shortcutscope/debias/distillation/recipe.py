"""Distillation from a specialist teacher, at its logits and at intermediate layers.

After Boland et al. 2025 (MELBA 2025:020): a teacher trained on a small clean subset, a student that learns on
the large biased set from the divergence to the teacher at several intermediate probes and at the output,

    L = a CE(y, p_S) + b T^2 KL(p_T || p_S) + c sum_l w_l D_l,   sum_l w_l = 1.

Their temperature, weights and layers are not published in a form that could be checked, so each of them is an
option and this is Boland-style, no reproduction. D_l is ``T^2 KL(p_T^l || p_S^l)`` between probes
``p^l = softmax(g_l(pool(h_l)) / T)``, the teacher's fitted on the clean subset with its network frozen, the
student's trained along; or a distance of features, attention maps or similarities (`matching`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from shortcutscope.debias.budget import budget, fit_student
from shortcutscope.debias.distillation.loss import OF_FEATURES, Distill, cache_bytes, teacher_outputs
from shortcutscope.debias.distillation.matching import Pair, pair_layers
from shortcutscope.debias.distillation.options import (
    Distillation,
    DistillationChoices,
    select_layers,
    student_layers,
)
from shortcutscope.debias.distillation.relevant import relevant_directions
from shortcutscope.debias.distillation.teacher_start import StartChoice, teacher_start
from shortcutscope.debias.gate import TeacherGate, gate, require_testable
from shortcutscope.debias.problem import DebiasProblem, Outcome
from shortcutscope.debias.samples import TrainingSamples
from shortcutscope.debias.teacher import (
    Ensemble,
    Teacher,
    fit_probes,
    pooled_features,
    require_clean,
    train_teacher,
)
from shortcutscope.debias.training.settings import Start
from shortcutscope.errors import InputError
from shortcutscope.models.copying import copied
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import count_scores
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.models.seeding import seeded
from shortcutscope.probes.cav import pattern_cav
from shortcutscope.types import Record

#: Teacher outputs of up to this size are kept instead of computed again at every step.
CACHE_BYTES = 2 * 2**30
#: Samples from which the spread of the teacher's features is taken.
EXAMPLES = 256

OnShortcut = Literal["refuse", "warn"]


def distil(
    problem: DebiasProblem,
    options: Distillation | None = None,
    *,
    teacher: Teacher | nn.Module | None = None,
    on_shortcut: OnShortcut = "refuse",
    **changes: Unpack[DistillationChoices],
) -> Outcome:
    """Distil a specialist teacher into a student, on the biased samples.

    Parameters
    ----------
    problem
        With clean samples, unless a teacher is given and no probes are needed.
    options
        See `Distillation`; `changes` replace single ones.
    teacher
        None trains one on the clean subset, from `Distillation.teacher_start`.
    on_shortcut
        What to do when the gate finds that the teacher uses the shortcut at every layer and in its
        decision: ``"refuse"`` or ``"warn"``, which goes on and says so in the outcome. It is judged only
        where the problem holds samples to judge it on.

    Raises
    ------
    InputError
        Before any training, for options out of range, clean samples or layers that are missing, a teacher
        with other classes, unknown groups; after the teacher's, when the gate refuses it.
    """
    options = (options or Distillation()).but(**changes)
    options.check()
    samples = _samples(problem, options)
    if problem.judged_on is not None and problem.concept is not None:
        require_testable(problem.judged_on, problem.concept)
    student, begun = _student(problem, options)
    layers = student_layers(student, problem.example(), options)
    weights, why = select_layers(layers, options, problem.layers)
    notes = [f"layers: {why}"] if weights else []
    choice: StartChoice | None = None
    if teacher is None:
        teacher, choice = _trained(problem, options)
        notes += [*([choice.reason] if choice else []), *teacher.notes]
    teacher_model = teacher.model if isinstance(teacher, Teacher) else teacher
    if options.start == "teacher":
        student, begun, remarks = _as_teacher(student, begun, teacher_model)
        notes += remarks
    _require_same_classes(student, teacher_model, problem)
    verdict = teacher.judged if isinstance(teacher, Teacher) else None
    verdict = verdict or judge(teacher_model, problem)
    weights, remarks = _passed(verdict, weights, on_shortcut)
    notes += remarks
    with frozen(teacher_model):
        pairs = _pairs(layers, teacher_model, weights, problem) if weights else []
        options = options if pairs or options.form is None else _logits_alone(options, notes)
        with seeded(problem.seed):  # the weights of what compares the layers
            objective = objective_for(problem, teacher_model, pairs, options, samples, notes)
        schedule = budget(problem, start=begun)
        fit_result = fit_student(problem, student, objective, schedule, "distil", samples.table)
    details = _details(pairs, options, choice, verdict)
    notes += fit_result.notes
    return Outcome(fit_result.model, fit_result.steps, fit_result.history, tuple(notes), details)


def _logits_alone(options: Distillation, notes: list[str]) -> Distillation:
    notes.append("no layer was left to compare: the logits alone were distilled")
    options = options.but(form=None)
    options.check()
    return options


def _passed(
    verdict: TeacherGate | None, weights: dict[str, float], on_shortcut: OnShortcut
) -> tuple[dict[str, float], list[str]]:
    """The layer weights that the gate leaves, and what there is to say of it.

    Raises
    ------
    InputError
        When the gate refuses the teacher.
    """
    if verdict is None:
        return weights, ["the teacher was not judged: give held-out samples with the concept for that"]
    notes = [verdict.reason]
    if not verdict.passed and on_shortcut == "refuse":
        raise InputError(
            f"{verdict.reason}. A student would learn it again. Give more or cleaner samples "
            "(learning_curve tells whether that helps), another teacher, or on_shortcut='warn'"
        )
    if weights:
        gated = verdict.weigh(weights)
        if gated.keys() != {name for name, weight in weights.items() if weight > 0}:
            notes.append("layers at which the teacher uses the shortcut were left out")
        weights = gated
    return weights, notes


def _details(
    pairs: Sequence[Pair], options: Distillation, choice: StartChoice | None, verdict: TeacherGate | None
) -> Record:
    details: Record = {"layers": {p.student.name: p.weight for p in pairs}, "form": options.form}
    if choice is not None:
        details["teacher_start"] = asdict(choice)
    if verdict is not None:
        details["teacher"] = {
            "verdict": verdict.verdict,
            "use": verdict.use,
            "layers": verdict.frame.to_dict("records"),
        }
    return details


def _trained(problem: DebiasProblem, options: Distillation) -> tuple[Teacher, StartChoice | None]:
    """A teacher of one's own, and why it began where it did, where that was to be chosen."""
    choice = teacher_start(problem, options.teacher_start)
    start: Start = choice.start if choice else "fresh" if options.teacher_start == "fresh" else "model"
    return train_teacher(problem, start=start), choice


def objective_for(
    problem: DebiasProblem,
    teacher: nn.Module,
    pairs: Sequence[Pair],
    options: Distillation,
    samples: TrainingSamples,
    notes: list[str],
) -> Distill:
    """The loss for this problem, with the teacher's probes and kept outputs; `notes` get what was done."""
    probes = None
    if options.form == "probes" and pairs:
        probes = fit_probes(teacher, require_clean(problem), _unique([p.teacher for p in pairs]))
    augmented = problem.training.augmentation != "none"
    keeps = options.cache
    if keeps is None:
        keeps = not augmented and cache_bytes(len(samples.table), pairs, options) <= CACHE_BYTES
    if keeps and augmented:
        raise InputError(
            "cache=True keeps the teacher's outputs of images as they are; use augmentation='none'"
        )
    cached = None
    if keeps:
        cached = teacher_outputs(teacher, samples.table, pairs, options, probes, progress=problem.progress)
        notes.append("the teacher's outputs were computed once and kept")
    subspaces: dict[str, Tensor] = {}
    if options.form in OF_FEATURES and options.along != 1:
        subspaces, without = _subspaces(teacher, pairs, samples)
        if without:
            notes.append(f"no class has both values of the concept: {', '.join(without)} matched as a whole")
    rows = np.random.default_rng(problem.seed).permutation(len(samples.table))[:EXAMPLES]
    example = torch.stack([samples.table[int(row)][0] for row in rows]).to(problem.device)
    relevant = None
    if options.form == "relevant" and pairs:
        layers = _unique([p.teacher for p in pairs])
        relevant = relevant_directions(teacher, example, layers, options.directions, subspaces)
        subspaces = {}
    return Distill(
        teacher,
        pairs,
        options,
        probes=probes,
        example=example,
        label_weights=samples.label_weights,
        draws=samples.draws,
        subspaces=subspaces,
        relevant=relevant,
        cached=cached,
        n_classes=max(2, count_scores(teacher, example[:2])),
    )


def judge(teacher: nn.Module, problem: DebiasProblem) -> TeacherGate | None:
    """The gate, where there are samples to judge a teacher on."""
    if problem.judged_on is None or problem.concept is None:
        return None
    return gate(teacher, problem.judged_on, problem.concept, seed=problem.seed, progress=problem.progress)


def _samples(problem: DebiasProblem, options: Distillation) -> TrainingSamples:
    """Choose the samples and the labels that are learnt, before any training.

    Raises
    ------
    InputError
        Without clean samples or groups, where the options need them.
    """
    samples = TrainingSamples.of(problem, options.clean_share)
    if options.labels == "clean":
        return samples.with_clean_labels(problem, options.clean_share)
    if options.labels == "group-balanced":
        return samples.group_balanced(problem, "group-balanced distillation")
    return samples


def _student(problem: DebiasProblem, options: Distillation) -> tuple[nn.Module, Start]:
    """The network to train, as it begins unless its teacher is copied."""
    start = problem.start if options.start is None or options.start == "teacher" else options.start
    return problem.network(start), start


def _as_teacher(student: nn.Module, begun: Start, teacher: nn.Module) -> tuple[nn.Module, Start, list[str]]:
    """The student as a copy of its teacher where it can be one; where it begins, and why not there."""
    if _same_architecture(student, teacher):
        return copied(teacher).requires_grad_(True), "model", []
    where = "from the biased network" if begun == "model" else "with new weights"
    return student, begun, [f"the student has another architecture than its teacher, so it begins {where}"]


def _same_architecture(first: nn.Module, second: nn.Module) -> bool:
    shapes, other_shapes = (
        {k: v.shape for k, v in network.state_dict().items()} for network in (first, second)
    )
    return type(first) is type(second) and shapes == other_shapes


def _pairs(
    layers: Sequence[Layer], teacher: nn.Module, weights: Mapping[str, float], problem: DebiasProblem
) -> list[Pair]:
    if isinstance(teacher, Ensemble):
        raise InputError(
            "the layers of several teachers cannot be compared with a student's: use form=None or one teacher"
        )
    example = problem.example()
    teacher_layers = list(find_layers(teacher, example))
    missing = [name for name in weights if name not in {layer.name for layer in teacher_layers}]
    modules = dict(teacher.named_modules())
    teacher_layers += (
        find_layers(teacher, example, extra) if (extra := [n for n in missing if n in modules]) else []
    )
    return pair_layers(layers, teacher_layers, weights)


def _subspaces(
    teacher: nn.Module, pairs: Sequence[Pair], samples: TrainingSamples
) -> tuple[dict[str, Tensor], list[str]]:
    """The direction of the shortcut at each layer of the teacher, among standardised channels, (1, C).

    It is the class-stratified pattern of the concept on the biased training samples.
    """
    if samples.carries is None:
        raise InputError(
            "along= needs the direction of the shortcut, and so carries=: which training samples carry it"
        )
    labels = samples.table.frame["label"].to_numpy()
    layers = _unique([p.teacher for p in pairs])
    features = pooled_features(teacher, samples.table, layers)
    directions, without = {}, []
    for layer in layers:
        means = features[layer.name][:, : layer.channels]
        try:
            change = pattern_cav(means, samples.carries, labels).signal
        except InputError:
            # At 100 % correlation no class has both values.
            without.append(layer.name)
            continue
        direction = change / (means.std(0) + 1e-3 * means.std(0).max() + 1e-12)
        norm = np.linalg.norm(direction)
        if norm > 0:
            directions[layer.name] = torch.as_tensor(direction[None] / norm, dtype=torch.float32)
    return directions, without


def _require_same_classes(student: nn.Module, teacher: nn.Module, problem: DebiasProblem) -> None:
    example = problem.example()
    n_student, n_teacher = count_scores(student, example), count_scores(teacher, example)
    if n_student != n_teacher:
        raise InputError(
            f"the teacher has {n_teacher} logits and the student {n_student}: they must tell the same "
            "classes apart"
        )


def _unique(layers: Sequence[Layer]) -> list[Layer]:
    return list({layer.name: layer for layer in layers}.values())
