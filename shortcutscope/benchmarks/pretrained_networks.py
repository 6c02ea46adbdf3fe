"""What the cases of a biased task share where users bring a pretrained network of full width.

The pretrained network is fine-tuned on the biased samples (the network that is audited and mended) and on the
same images without the correlation (the yardstick); both are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from torch import nn

from shortcutscope.benchmarks.debias_data import Cohort, CohortSize, make_cohort
from shortcutscope.benchmarks.debias_networks import CaseSpec, NetworkStore
from shortcutscope.benchmarks.models import tasks
from shortcutscope.benchmarks.pretraining import (
    ARCHITECTURES,
    pretrained,
    pretraining_key,
    pretraining_source,
)
from shortcutscope.benchmarks.runner import Case, Settings
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.teacher import Teacher, train_teacher
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.debias.training.settings import Start
from shortcutscope.planting.artifacts import get_artifact

#: A tag, noise, and the exposure.
KINDS = ("tag", "noise", "brightness")
CORRELATION = 0.95
#: Images of a side at which networks of full width have positions left in their last layer.
SIZE = CohortSize(side=96, n_train=800, n_held_out=600, mode="RGB")
QUICK_SIZE = CohortSize(side=64, n_train=200, n_held_out=120, mode="RGB")
#: Four passes in small batches; students have the learning rates of where they begin.
TRAINING = Training(epochs=4, batch_size=32)
#: At which the pretrained network was fine-tuned to what is mended, whatever students are trained at. With
#: another one, `shortcutscope.benchmarks.debias_networks.VERSION` is another.
LR = 3e-4
#: What a teacher that never saw a biased sample was fine-tuned on.
Unbiased = Literal["clean", "unbiased"]


class PretrainedStore(NetworkStore):
    """Networks that were pretrained on other images, then fine-tuned."""

    def __init__(self, spec: CaseSpec, settings: Settings) -> None:
        self.size = QUICK_SIZE if settings.quick else SIZE
        super().__init__(spec, settings)
        self.training = training_of(settings).but(seed=spec.seed)
        self._pretraining = pretraining_key(spec.network, self.size.side, settings)

    def _cohort(self) -> Cohort:
        s = self.spec
        return make_cohort(s.task, s.kind, s.seed, s.correlation, s.clean_fraction, self.settings, self.size)

    def initial(self, seed: int) -> nn.Module:
        """A network that was not trained."""
        return ARCHITECTURES[self.spec.network](self.size.side, 2, seed)

    def pretrained(self) -> nn.Module:
        """The pretrained network with a new head."""
        return pretrained(self.spec.network, self.size.side, self.spec.seed, self.settings)

    def problem_from(self, start: Start, *, audited: bool = False) -> DebiasProblem:
        """For a recipe that begins there, and the layers of an audit where it needs them."""
        return replace(self.problem(audited=audited), start=start)

    def specialist(self, saw: Unbiased) -> Teacher:
        """The pretrained network, fine-tuned on the clean subset; or the reference as a teacher."""
        cohort = self.cohort
        if saw == "unbiased":
            table = cohort.unbiased
            return self._as_teacher(self.oracle(), "given", len(table), f"reference {table.fingerprint()}")
        inputs = f"pretrained {cohort.clean.fingerprint()}"
        problem = replace(self.problem(audited=False), model=self.pretrained())
        model = self._network("specialist", inputs, lambda: train_teacher(problem, start="model").model)
        return self._as_teacher(model, "given", len(cohort.clean), inputs)

    def _erm(self, table: ImageTable) -> nn.Module:
        training = self.training.but(lr=LR)
        return fit(self.pretrained(), table, CrossEntropy(), training, progress=False).model

    def judge(self, model: nn.Module) -> dict[str, float]:
        """What a network is held to, on the test samples alone: full width takes its time."""
        return self.on_test(model)

    def _path(self, name: str, inputs: str) -> Path:
        return super()._path(name, f"{inputs} {self._pretraining}")


def training_of(settings: Settings) -> Training:
    """The budget of every training on the biased task."""
    return TRAINING.but(epochs=1) if settings.quick else TRAINING


def networks_to_mend(settings: Settings, networks: Sequence[str]) -> list[Case]:
    """What every case says of the network that is mended; three artifacts and two seeds.

    Quick: the first network and artifact. Full: three seeds. Whatever one seed needs comes first, so that a
    run that is stopped has whole seeds.
    """
    n_seeds = 1 if settings.quick else 3 if settings.full else 2
    task = tasks(settings)[1 if settings.quick else 0]
    return [
        {
            "task": task,
            "network": network,
            "pretrained_on": pretraining_source(settings.data),
            "kind": kind,
            "group": get_artifact(kind).extent,
            "seed": seed,
            "correlation": CORRELATION,
        }
        for seed in range(settings.seed, settings.seed + n_seeds)
        for network in (networks[:1] if settings.quick else networks)
        for kind in (KINDS[:1] if settings.quick else KINDS)
    ]


@lru_cache(maxsize=1)
def _store(spec: CaseSpec, settings: Settings) -> PretrainedStore:
    return PretrainedStore(spec, settings)


def store_of(case: Case, settings: Settings) -> PretrainedStore:
    """What a case shares with others of its setting; made once per process."""
    names = ("task", "kind", "seed", "correlation", "clean_fraction", "network")
    return _store(CaseSpec(**{name: case[name] for name in names}), settings)
