"""What a network of SimBA's protocol is held to: its groups, its twins, its layers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shortcutscope.audit.stages import audit
from shortcutscope.benchmarks.papers.simba.data import Cohort
from shortcutscope.benchmarks.papers.simba.networks import Trained
from shortcutscope.data.table import ImageTable
from shortcutscope.options import Running, Statistics
from shortcutscope.stats.metrics import flip_rate
from shortcutscope.types import Record

__all__ = ["N_AUDITED", "groups_apart", "judge", "layers_of"]


#: Test heads that the audit looks at, permutations and resamples: for figures by layer, not for p values.
N_AUDITED, N_PERMUTATIONS, N_BOOTSTRAP = 400, 60, 60


def groups_apart(labels: npt.ArrayLike, carries: npt.ArrayLike, predicted: npt.ArrayLike) -> dict[str, float]:
    """True- and false-positive rate of either group, and how far apart they are.

    Parameters
    ----------
    labels, carries, predicted
        (N,) class, group and predicted class, each 0 or 1; no (class, group) may be empty.

    Returns
    -------
    dict
        ``tpr_biased``, ``tpr_unbiased``, ``fpr_biased``, ``fpr_unbiased``; ``delta_tpr`` and
        ``delta_fpr``, the biased group's minus the other's; ``gap``, the mean of their absolute values, 0
        where odds are equalised; ``largest_gap``, the greater of the two.
    """
    y, a, p = (np.asarray(values) for values in (labels, carries, predicted))
    rates = {}
    for rate, label in (("tpr", 1), ("fpr", 0)):
        for group, value in (("biased", 1), ("unbiased", 0)):
            rates[f"{rate}_{group}"] = float((p[(y == label) & (a == value)] == 1).mean())
        rates[f"delta_{rate}"] = rates[f"{rate}_biased"] - rates[f"{rate}_unbiased"]
    apart = abs(rates["delta_tpr"]), abs(rates["delta_fpr"])
    return rates | {"gap": sum(apart) / 2, "largest_gap": max(apart)}


def judge(classifier: Trained, cohort: Cohort, *, without: bool = False) -> dict[str, float | None]:
    """Accuracy, gap of the groups by each bias, and flips by each bias alone.

    Parameters
    ----------
    classifier
        A network, or one for each group.
    cohort
        Whose test heads it is judged on.
    without
        Judge the groups on the test heads without any bias, as the paper does with the network that is
        trained without; the groups are those that would have it.
    """
    test = cohort.test_without if without and cohort.test_without is not None else cohort.test
    labels = test.frame["label"].to_numpy()
    predicted = classifier.predictions(test, cohort.carries("test"))
    metrics: dict[str, float | None] = {"accuracy": float((predicted == labels).mean())}
    for bias in cohort.biases:
        after = "" if bias == cohort.bias else f"_{bias}"
        apart = groups_apart(labels, cohort.carries("test", bias), predicted)
        metrics |= {f"{name}{after}": value for name, value in apart.items()}
        metrics[f"flips{after}"] = _flips(classifier, cohort, bias)
    return metrics


def _flips(classifier: Trained, cohort: Cohort, bias: str) -> float | None:
    if bias not in cohort.twins:
        return None
    twins = cohort.twins[bias]
    before, after = (
        classifier.predictions(table, np.full(len(table), group)) for group, table in enumerate(twins)
    )
    return float(flip_rate(before, after))


def layers_of(classifier: Trained, cohort: Cohort, seed: int) -> Record:
    """Where the first bias is encoded and used, by an audit of test heads that have it or not.

    Empty for a network for each group, and where the bias cannot be tested.

    Returns
    -------
    dict
        ``layers``, ``availability`` (cross-fitted, within class), ``chance`` (95th percentile of permuted
        biases) and ``use`` (standard deviations of the logit) by layer, input first; ``encoded`` and
        ``used``, the audit's answers.
    """
    if len(classifier.models) > 1:
        return {}
    sample = _some(cohort.test, seed)
    with tempfile.TemporaryDirectory() as folder:
        result = audit(
            classifier.models[0],
            sample,
            Path(folder) / "run",
            concepts=[cohort.bias],
            train=cohort.train,
            discover=False,
            statistics=Statistics(n_permutations=N_PERMUTATIONS, n_bootstrap=N_BOOTSTRAP, seed=seed),
            running=Running(batch_size=classifier.batch_size, progress=False),
        )
        profile, finding = result.profile, result[cohort.bias]
    if finding.verdict == "not testable":
        return {}
    record: Record = {
        name: profile[column].tolist()
        for name, column in (
            ("layers", "layer"),
            ("availability", "auroc"),
            ("chance", "null_high"),
            ("use", "use"),
        )
    }
    return record | {"encoded": finding.encoded.get("value"), "used": finding.used.get("value")}


def _some(table: ImageTable, seed: int) -> ImageTable:
    if len(table) <= N_AUDITED:
        return table
    return table.take(np.sort(np.random.default_rng(seed).permutation(len(table))[:N_AUDITED]))
