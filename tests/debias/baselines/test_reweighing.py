from __future__ import annotations

import numpy as np
import torch

from shortcutscope.data.artifacts import get_artifact
from shortcutscope.data.phantoms import radiographs
from shortcutscope.data.planting import plant
from shortcutscope.debias.baselines.erm import erm
from shortcutscope.debias.baselines.reweighing import group_balanced_ce
from shortcutscope.debias.materials import Materials
from shortcutscope.debias.training.fit import Training
from shortcutscope.models.frozen import frozen
from shortcutscope.models.targets import margin
from shortcutscope.models.thin import ThinResNet, seeded
from shortcutscope.stats.metrics import robust_auroc


def _network(seed: int) -> ThinResNet:
    with seeded(seed):
        return ThinResNet(width=8, blocks=(1, 1))


def test_groups_that_weigh_alike_take_a_strong_shortcut_back() -> None:
    pool = radiographs(440, size=32, seed=50, patients=False)
    drawn = get_artifact("tag")
    train = plant(pool.take(np.arange(240)), drawn, correlation=0.95, seed=1)
    judged = plant(pool.take(np.arange(240, 440)), drawn, prevalence={0: 0.5, 1: 0.5}, seed=3)
    materials = Materials(
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

    assert robust(group_balanced_ce(materials).model) > robust(erm(materials).model) + 0.15
