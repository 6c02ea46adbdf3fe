"""What the cases of a biased task share where users bring a pretrained network of full width.

The pretrained network is fine-tuned on the biased samples (the network that is audited and mended) and on the
same images without the correlation (the yardstick); both are kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from torch import nn

from shortcutscope.benchmarks.debias_data import Cohort, CohortSize, make_cohort
from shortcutscope.benchmarks.debias_networks import CaseSpec, NetworkStore
from shortcutscope.benchmarks.pretraining import ARCHITECTURES, pretrained, pretraining_key
from shortcutscope.benchmarks.runner import Case, Settings
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.debias.training.settings import Start

#: Images of a side at which networks of full width have positions left in their last layer.
SIZE = CohortSize(side=96, n_train=800, n_held_out=600, mode="RGB")
QUICK_SIZE = CohortSize(side=64, n_train=200, n_held_out=120, mode="RGB")
#: Four passes in small batches; students have the learning rates of where they begin.
TRAINING = Training(epochs=4, batch_size=32)
#: At which the pretrained network was fine-tuned to what is mended, whatever students are trained at. With
#: another one, `shortcutscope.benchmarks.debias_networks.VERSION` is another.
LR = 3e-4


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

    def problem_from(self, start: Start) -> DebiasProblem:
        """For a recipe that begins there, without an audit."""
        return replace(self.problem(audited=False), start=start)

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


@lru_cache(maxsize=1)
def _store(spec: CaseSpec, settings: Settings) -> PretrainedStore:
    return PretrainedStore(spec, settings)


def store_of(case: Case, settings: Settings) -> PretrainedStore:
    """What a case shares with others of its setting; made once per process."""
    names = ("task", "kind", "seed", "correlation", "clean_fraction", "network")
    return _store(CaseSpec(**{name: case[name] for name in names}), settings)
