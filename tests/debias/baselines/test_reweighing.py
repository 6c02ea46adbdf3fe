from __future__ import annotations

import numpy as np
import pytest
import torch

from shortcutscope.debias.baselines.erm import erm
from shortcutscope.debias.baselines.reweighing import balanced_finetune, group_balanced_ce
from shortcutscope.debias.distillation.recipe import distil
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.samples import CLEAN_SHARE, TrainingSamples
from shortcutscope.debias.training.fit import Training
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.targets import margin
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.thin import ThinResNet
from shortcutscope.stats.metrics import robust_auroc


def _network(seed: int) -> ThinResNet:
    with seeded(seed):
        return ThinResNet(width=8, blocks=(1, 1))


def test_groups_that_weigh_alike_take_a_strong_shortcut_back() -> None:
    pool = radiographs(440, size=32, seed=50, patients=False)
    drawn = get_artifact("tag")
    train = plant(pool.take(np.arange(240)), drawn, correlation=0.95, seed=1)
    judged = plant(pool.take(np.arange(240, 440)), drawn, prevalence={0: 0.5, 1: 0.5}, seed=3)
    problem = DebiasProblem(
        _network(50),
        train,
        carries=train.frame["tag"].to_numpy(dtype=float),
        training=Training(epochs=8, batch_size=32, precision="fp32", seed=50),
        initial=_network,
        seed=50,
        progress=False,
    )

    def robust(model: torch.nn.Module) -> float:
        with frozen(model), torch.no_grad():
            scores = margin(model(torch.stack([image for image, _, _ in judged]))).numpy()
        return float(robust_auroc(judged.frame["label"], judged.frame["tag"], scores))

    assert robust(group_balanced_ce(problem).model) > robust(erm(problem).model) + 0.15


def test_balanced_finetuning_is_balanced_distillation_without_a_term_of_the_teacher(
    problem: DebiasProblem,
) -> None:
    own = balanced_finetune(problem)
    student = distil(
        problem,
        form=None,
        labels="group-balanced",
        clean_share=CLEAN_SHARE,
        start="teacher",
        logit_weight=0.0,
    )
    assert own.steps == student.steps
    other = student.model.state_dict()
    for name, values in own.model.state_dict().items():
        torch.testing.assert_close(values, other[name])
    began = problem.model.state_dict()
    assert any(not torch.equal(values, began[name]) for name, values in own.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in own.model.parameters())
    assert any("trained on the 32 clean samples first" in note for note in own.notes)


def test_clean_samples_take_their_share_and_groups_weigh_alike(problem: DebiasProblem) -> None:
    samples = TrainingSamples.of(problem, 0.25).group_balanced(problem, "a test")
    assert samples.draws is not None
    assert samples.label_weights is not None
    n = len(problem.train)
    assert float(samples.draws[n:].sum() / samples.draws.sum()) == pytest.approx(0.25)
    seen = samples.draws * samples.label_weights
    labels = samples.table.frame["label"].to_numpy()
    groups = [(labels == y) & (samples.carries == a) for y in (0, 1) for a in (0, 1)]
    shares = [float(seen[torch.from_numpy(group)].sum()) for group in groups]
    assert shares == pytest.approx([sum(shares) / 4] * 4, rel=1e-5)
    clean = TrainingSamples.of(problem, 0.25).with_clean_labels(problem, 0.25)
    assert clean.label_weights is not None
    assert set(clean.label_weights[:n].tolist()) == {0.0}
    assert set(clean.label_weights[n:].tolist()) == {4.0}
