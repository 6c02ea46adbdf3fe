"""The networks that the cases of a debiasing benchmark share: made once, kept in the cache.

The biased network, the oracle trained on the same images without the correlation, teachers, what an audit
says of each, and which training samples are retrieved as carriers from ten marks and 45 answers.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.debias_data import Cohort, make_cohort
from shortcutscope.benchmarks.debias_heads import KINDS as HEAD_KINDS
from shortcutscope.benchmarks.debias_heads import head_cohort
from shortcutscope.benchmarks.kept import kept_network
from shortcutscope.benchmarks.runner import Case, Settings
from shortcutscope.benchmarks.suites.retrieval import retrieve_planted
from shortcutscope.data.table import ImageTable
from shortcutscope.debias.distillation.teacher_start import StartChoice, TeacherStart, teacher_start
from shortcutscope.debias.gate import TeacherGate, gate
from shortcutscope.debias.objective import CrossEntropy
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.teacher import Teacher, train_teacher
from shortcutscope.debias.training.fit import Training, fit
from shortcutscope.debias.training.settings import Start
from shortcutscope.facade import Finding
from shortcutscope.files import read_json, write_json
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.thin import thin_cnn3d, thin_resnet18
from shortcutscope.planting.thin_classics import thin_alexnet, thin_densenet121
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.predictions import predict_logits
from shortcutscope.stats.metrics import balanced_auroc, delta_tpr, robust_auroc, worst_group_accuracy
from shortcutscope.stats.testing import MIN_FOR_TAIL
from shortcutscope.types import Floats

VERSION = 1
#: Of every recipe: five passes over the biased samples, each batch shifted by up to two pixels.
TRAINING = Training(epochs=5, batch_size=64, lr=3e-3)

#: Networks that a setting may name, each from a seed to new weights.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet18": lambda seed: thin_resnet18(seed=seed),
    "resnet18, full width": lambda seed: thin_resnet18(width=64, seed=seed),
    "resnet18, half": lambda seed: thin_resnet18(width=8, seed=seed),
    "alexnet": lambda seed: thin_alexnet(seed=seed),
    "densenet121": lambda seed: thin_densenet121(seed=seed),
    "cnn3d": lambda seed: thin_cnn3d(seed=seed),
}
#: Of networks that need another training to learn the task at all, as the unbiased samples showed.
TRAININGS = {"alexnet": TRAINING.but(epochs=20, lr=1e-3), "cnn3d": TRAINING.but(epochs=20, lr=1e-2)}


@dataclass(frozen=True)
class CaseSpec:
    """What the cases of one trained cohort share.

    Attributes
    ----------
    task, kind, seed, correlation, clean_fraction
        See `make_cohort`.
    network
        A key of `NETWORKS`.
    """

    task: str
    kind: str
    seed: int
    correlation: float
    clean_fraction: float
    network: str = "resnet18"

    @property
    def group(self) -> str:
        """``localized`` or ``diffuse``."""
        return extent_of(self.kind)


def extent_of(kind: str) -> str:
    """``localized`` or ``diffuse``, of an artifact or of a bias of the heads."""
    return HEAD_KINDS[kind] if kind in HEAD_KINDS else get_artifact(kind).extent


def cohort_of(
    task: str, kind: str, seed: int, correlation: float, clean_fraction: float, settings: Settings
) -> Cohort:
    """The samples of a task; ``heads`` are volumes, ``heads-other`` those of another population."""
    if task.startswith("heads"):
        return head_cohort(kind, seed, correlation, clean_fraction, other=task != "heads")
    return make_cohort(task, kind, seed, correlation, clean_fraction, settings)


class NetworkStore:
    """Makes, and remembers on disk, what the cases of a setting share."""

    def __init__(self, spec: CaseSpec, settings: Settings) -> None:
        self.spec, self.settings = spec, settings
        self.cohort = self._cohort()
        self.training = TRAININGS.get(spec.network, TRAINING).but(seed=spec.seed)

    def _cohort(self) -> Cohort:
        s = self.spec
        return cohort_of(s.task, s.kind, s.seed, s.correlation, s.clean_fraction, self.settings)

    def initial(self, seed: int) -> nn.Module:
        """A network that was not trained."""
        return NETWORKS[self.spec.network](seed)

    def biased(self) -> nn.Module:
        """Trained by cross-entropy on the biased samples."""
        return self._network(
            "biased", self.cohort.biased.fingerprint(), lambda: self._erm(self.cohort.biased)
        )

    def oracle(self) -> nn.Module:
        """The same on the same images, half of either class of which carry the artifact."""
        return self._network(
            "oracle", self.cohort.unbiased.fingerprint(), lambda: self._erm(self.cohort.unbiased)
        )

    def _erm(self, table: ImageTable) -> nn.Module:
        network = self.initial(self.spec.seed)
        return fit(network, table, CrossEntropy(), self.training, progress=False).model

    def finding(self) -> Finding:
        """What an audit on the audited samples says of the artifact in the biased network."""
        file = self._path("finding", self.cohort.biased.fingerprint())
        if not file.exists():
            with tempfile.TemporaryDirectory() as folder:
                result = audit(
                    self.biased(),
                    self.cohort.audited,
                    Path(folder) / "run",
                    concepts=[self.spec.kind],
                    train=self.cohort.biased,
                    discover=False,
                    statistics=Statistics(n_permutations=MIN_FOR_TAIL, n_bootstrap=100, seed=self.spec.seed),
                    running=Running(progress=False),
                )
                write_json(file, result[self.spec.kind].to_dict())
        return Finding.from_dict(read_json(file))

    def problem(self, carries: Floats | None = None, *, audited: bool = True) -> DebiasProblem:
        """For a recipe; with the true carriers where no others are given, and the layers of an audit."""
        s, cohort = self.spec, self.cohort
        truth = cohort.biased.frame[s.kind].to_numpy(float)
        return DebiasProblem(
            model=self.biased(),
            train=cohort.biased,
            clean=cohort.clean,
            carries=truth if carries is None else carries,
            clean_carries=cohort.clean.frame[s.kind].to_numpy(float),
            masks=cohort.masks if s.group == "localized" else None,
            layers=(dict(self.finding().layers) if audited else None) or None,
            judged_on=cohort.audited,
            concept=s.kind,
            start="fresh",
            initial=self.initial,
            training=self.training,
            seed=s.seed,
            progress=False,
        )

    def teacher(self, start: Start = "model", number: int = 0) -> Teacher:
        """A specialist trained on the clean subset, with what the gate says of it; several by number."""
        cohort = self.cohort
        inputs = (
            f"{start} {cohort.clean.fingerprint()} {cohort.biased.fingerprint() if start == 'model' else ''}"
        )
        inputs += f" {number}" if number else ""
        problem = replace(
            self.problem(audited=False),
            seed=self.spec.seed + 100 * number,
            training=self._seeded(100 * number),
        )
        model = self._network(f"teacher-{start}", inputs, lambda: train_teacher(problem, start=start).model)
        return self._as_teacher(model, start, len(cohort.clean), inputs)

    def _as_teacher(self, model: nn.Module, start: str, n_clean: int, inputs: str) -> Teacher:
        """With what the gate says of it."""
        model.requires_grad_(False)
        return Teacher(model, start, n_clean, (), self._gate(model, inputs))

    def teacher_start(self, start: TeacherStart) -> StartChoice | None:
        """Where a recipe's teacher begins, and why, where that was to be chosen."""
        cohort = self.cohort
        path = self._path(f"start-{start}", f"{cohort.clean.fingerprint()} {cohort.biased.fingerprint()}")
        if not path.exists():
            choice = teacher_start(self.problem(audited=False), start)
            write_json(path, {"choice": None if choice is None else asdict(choice)})
        entry = read_json(path)["choice"]
        return None if entry is None else StartChoice(**entry)

    def _seeded(self, more: int) -> Training:
        return self.training.but(seed=self.spec.seed + more)

    def _gate(self, model: nn.Module, inputs: str) -> TeacherGate:
        path = self._path("gate", inputs)
        if not path.exists():
            teacher_gate = gate(
                model, self.cohort.audited, self.spec.kind, seed=self.spec.seed, progress=False
            )
            record = {
                "rows": teacher_gate.frame.to_dict("records"),
                "verdict": teacher_gate.verdict,
                "use": teacher_gate.use,
            }
            write_json(path, record)
        record = read_json(path)
        return TeacherGate(pd.DataFrame(record["rows"]), record["verdict"], record["use"])

    def retrieved(self) -> Floats:
        """(N,) which biased samples carry the artifact, from ten marks and 45 answers; NaN in doubt.

        Raises
        ------
        InputError
            When fewer than ten samples of the rare class carry it, as at full correlation.
        """
        s, table = self.spec, self.cohort.biased
        path = self._path("retrieved", table.fingerprint())
        if not path.exists():
            retrieval, ids = retrieve_planted(self.biased(), table, s.kind, s.seed), table.frame["sample_id"]
            marks, labels = retrieval.known, table.frame["label"].to_numpy()
            inferred = Concept.from_scores(
                s.kind, retrieval.scores, ids.to_numpy(np.str_), labels=labels
            ).values
            values = np.where(np.isfinite(marks), marks, inferred)
            write_json(path, [None if np.isnan(value) else value for value in values.tolist()])
        return np.array(read_json(path), dtype=np.float64)

    def judge(self, model: nn.Module) -> dict[str, float]:
        """What a network is held to, on the test samples and their twins."""
        cohort = self.cohort
        without, with_ = (predict_logits(model, t).argmax(1) for t in (cohort.without, cohort.with_))
        return {**self.on_test(model), "flip_rate": float((without != with_).float().mean())}

    def on_test(self, model: nn.Module) -> dict[str, float]:
        """What a network is held to, on the test samples alone."""
        test = self.cohort.test
        logits = predict_logits(model, test).numpy()
        margin = logits[:, 1] - logits[:, 0]
        y, a = test.frame["label"].to_numpy(), test.frame[self.spec.kind].to_numpy()
        return {
            "robust_auroc": float(robust_auroc(y, a, margin)),
            "worst_group": float(worst_group_accuracy(y, a, (margin > 0).astype(int))),
            "balanced_auroc": float(balanced_auroc(y, a, margin)),
            "delta_tpr": float(delta_tpr(y, a, (margin > 0).astype(int))),
            "accuracy": float(((margin > 0) == (y == 1)).mean()),
        }

    def judged(self, name: str, model: Callable[[], nn.Module], inputs: str) -> dict[str, float]:
        """`judge`, remembered."""
        path = self._path(f"judged-{name}", f"{inputs} {self.cohort.test.fingerprint()}")
        if not path.exists():
            write_json(path, self.judge(model()))
        metrics: dict[str, float] = read_json(path)
        return metrics

    def _network(self, name: str, inputs: str, make: Callable[[], nn.Module]) -> nn.Module:
        path = self._path(name, inputs).with_suffix(".safetensors")
        return kept_network(path, self.initial(self.spec.seed), make)

    def _path(self, name: str, inputs: str) -> Path:
        s = self.spec
        key = json.dumps([VERSION, name, inputs, s.task, s.kind, s.seed, s.network, repr(self.training)])
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        return self.settings.cache / "debias-networks" / f"{s.task}-{s.kind}-{name}-{digest}.json"


@lru_cache(maxsize=1)
def _store(spec: CaseSpec, settings: Settings) -> NetworkStore:
    return NetworkStore(spec, settings)


def store_of(case: Case, settings: Settings) -> NetworkStore:
    """What a case shares with others of its setting; made once per process."""
    names = [field.name for field in fields(CaseSpec) if field.name in case]
    return _store(CaseSpec(**{name: case[name] for name in names}), settings)
