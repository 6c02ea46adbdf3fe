"""Model randomisation: does the map change while the model forgets what it has learned?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shortcutscope.attribution.attribute import Attribution, MethodSettings, attribute
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.copying import copied
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer
from shortcutscope.progress import progress_bar
from shortcutscope.types import Array, Record

#: Measures of `model_randomization`.
MEASURES = ("rank_absolute", "rank_signed", "ssim")


@dataclass(frozen=True)
class Randomization:
    """How a map changes while a model forgets what it has learned, from its output to its input.

    Attributes
    ----------
    table
        One row per stage, sample and measure: ``stage`` (from 1), ``randomized`` (how many modules),
        ``module`` (the last of them), ``sample``, ``measure``, ``value``. Measures compare with the map of
        the model as it is: ``"rank_absolute"`` and ``"rank_signed"``, Spearman's correlation of the map
        without and with its sign; ``"ssim"``, structural similarity of the map without its sign, scaled to
        its maximum. NaN where a map is constant, or where there is none.
    passed, reason
        The verdict, and why it failed (else empty).
    """

    table: pd.DataFrame
    passed: bool
    reason: str

    def curves(self) -> pd.DataFrame:
        """Mean over samples: one row a stage, one column a measure."""
        return self.table.pivot_table(index="randomized", columns="measure", values="value", dropna=False)


@dataclass(frozen=True)
class Cascade:
    """How weights are drawn anew, and from what on that counts against a method.

    Attributes
    ----------
    stages
        At how many numbers of randomised modules a map is made; the last is of a wholly random model.
    threshold
        The method fails where the mean signed rank correlation in the last stage is larger. A convention.
        Without sign it is no measure of failing: the size of every product with the input follows the
        input, whatever the weights are (Binder et al. 2023).
    seed
        Of the weights; global generators are left alone.

    Raises
    ------
    InputError
        Fewer stages than one.
    """

    stages: int = 10
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise InputError(f"stages is {self.stages}; at least one is needed")


def model_randomization(
    model: nn.Module,
    x: Tensor,
    method: str = "lrp",
    *,
    layer: str | Layer | None = None,
    explained: Explained | None = None,
    cascade: Cascade | None = None,
    progress: bool = True,
    **options: Unpack[MethodSettings],
) -> Randomization:
    """Cascading randomisation (Adebayo et al. 2018, section 3.1).

    A method whose map stays as it was when the weights are random shows the image, not the model. Weights
    are drawn from the normal distribution with the mean and deviation of the tensor that they replace, so
    that signals keep their size; running statistics stay.

    Parameters
    ----------
    model
        Comes back unchanged; a copy is randomised.
    x
        A batch (N, ...).
    method, layer, **options
        As of `attribute`.
    explained
        Which score, by default that of the predicted class. The class is that of the model as it is
        throughout.
    cascade
        How weights are drawn anew.
    progress
        Show a progress bar.

    Raises
    ------
    InputError
        A model without parameters.
    ModelError
        The method gives no map of the model as it is.

    Examples
    --------
    >>> ss.model_randomization(model, images, "lrp").table  # doctest: +SKIP
    """
    explained, cascade = explained or Explained(), cascade or Cascade()
    question: Record = {**options, "x": x, "method": method, "layer": layer, "check": False}
    question |= {"task": explained.task, "output": explained.output}
    original = attribute(model, target=explained.target, labels=explained.labels, **question)
    if original.reason is not None:
        raise ModelError(f"{method} gives no map of the model as it is: {original.reason}")
    twin = copied(model)
    modules = _from_output(twin, x)
    ends = np.unique(np.linspace(1, len(modules), min(cascade.stages, len(modules))).round().astype(int))
    bar = progress_bar(ends.tolist(), desc="randomisation", progress=progress)
    explain = partial(attribute, twin, target=original.target, **question)
    table = _randomized(modules, bar, _maps(original), explain, cascade.seed)
    return Randomization(table, *_verdict(table, method, cascade.threshold))


def _randomized(
    modules: Sequence[tuple[str, nn.Module]],
    ends: Iterable[int],
    reference: Array,
    explain: Callable[[], Attribution],
    seed: int,
) -> pd.DataFrame:
    """Randomise the modules up to each end in turn, and compare the maps."""
    generator = torch.Generator().manual_seed(seed)
    rows, done, done_ids = [], 0, set[int]()
    for stage, end in enumerate(ends, start=1):
        for _, module in modules[done:end]:
            _randomize(module, generator, done_ids)
        done = end
        place = {"stage": stage, "randomized": end, "module": modules[end - 1][0]}
        rows += [place | row for row in _similarities(reference, _explained_at_all(explain))]
    return pd.DataFrame(rows)


def _from_output(model: nn.Module, x: Tensor) -> list[tuple[str, nn.Module]]:
    """Modules with parameters of their own, the last to run first.

    One that never runs as a module, because its parent reads its weights, counts as run with its parent.
    """
    order: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        return lambda *arguments: order.update({name: order.get(name, len(order))})

    with frozen(model), torch.no_grad():
        for name, module in model.named_modules():
            module.register_forward_pre_hook(watch(name))
        model(x[:1].detach().clone())

    def started(name: str) -> int:
        while name not in order:
            name = name.rpartition(".")[0]
        return order[name]

    owners = [(n, m) for n, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    if not owners:
        raise InputError("the model has no parameters that could be randomised")
    return sorted(owners, key=lambda owner: started(owner[0]), reverse=True)


@torch.no_grad()
def _randomize(module: nn.Module, generator: torch.Generator, done_ids: set[int]) -> None:
    for parameter in module.parameters(recurse=False):
        if id(parameter) in done_ids:  # shared with a module nearer to the output
            continue
        done_ids.add(id(parameter))
        values = parameter.float()
        deviation = values.std(unbiased=False)
        # Drawn on the CPU, so that it is the same on every device.
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.device)
        parameter.copy_(values.mean() + deviation * noise)


def _explained_at_all(explain: Callable[[], Attribution]) -> Array | None:
    """The maps; None if a random model gives none, because its scores or relevances overflow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            relevance = explain()
        except ModelError:
            return None
    return None if relevance.reason is not None else _maps(relevance)


def _maps(attribution: Attribution) -> Array:
    maps: Array = attribution.maps().double().cpu().numpy()
    return maps


def _similarities(reference: Array, randomized: Array | None) -> Iterator[Record]:
    for sample, before in enumerate(reference):
        values = (np.nan,) * len(MEASURES) if randomized is None else _similarity(before, randomized[sample])
        for measure, value in zip(MEASURES, values, strict=True):
            yield {"sample": sample, "measure": measure, "value": value}


def _similarity(a: Array, b: Array) -> tuple[float, float, float]:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return (np.nan,) * 3
    return _rank_correlation(np.abs(a), np.abs(b)), _rank_correlation(a, b), _ssim(np.abs(a), np.abs(b))


def _rank_correlation(a: Array, b: Array) -> float:
    from scipy.stats import spearmanr

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a.ravel(), b.ravel()).statistic)


def _ssim(a: Array, b: Array) -> float:
    from skimage.metrics import structural_similarity

    side = min(7, *a.shape)
    window = side if side % 2 else side - 1
    if window < 3:
        return float("nan")
    similarity: Any = structural_similarity  # scikit-image is not typed throughout
    return float(similarity(a / a.max(), b / b.max(), win_size=window, data_range=1.0))


def _verdict(table: pd.DataFrame, method: str, threshold: float) -> tuple[bool, str]:
    last = table[table["stage"] == table["stage"].max()]
    means: dict[str, float] = last.groupby("measure")["value"].mean().to_dict()
    if np.isnan(means["rank_signed"]):
        return False, f"{method} gives no map of the random model, so nothing can be said"
    if means["rank_signed"] > threshold:
        return False, (
            f"with all weights random the map of {method} still has a rank correlation of "
            f"{means['rank_signed']:.2f} with that of the model, where at most {threshold:g} is allowed; it "
            "shows the image more than the model"
        )
    return True, ""


__all__ = ["MEASURES", "Cascade", "Randomization", "model_randomization"]
