"""What the scan costs: beside one forward and backward pass, one layer, captum, and more samples.

All ratios are of CPU time on one thread, of calls alternated in one process; the median over the rounds of
the ratio within a round, so that a busy machine slows both sides. The model, its memory format (channels
last, the scan's own) and its frozen parameters are the same for all.

- ``ratio_fb``: scan of all layers / forward pass and gradient with respect to the image.
- ``ratio_all_vs_one``: scan of all layers / scan of the first one, whose backward pass is as long.
- ``ratio_captum_per_layer``, ``ratio_captum_list``: captum's LayerGradientXActivation, called for one layer
  after the other or once with all of them, and pooled / scan.
- ``ratio_captum_per_layer_both``, ``ratio_captum_list_both``: the same with LayerActivation besides, which is
  what it takes to get all that the scan gives.
- ``memory_ratio_fb``: peak memory on top of the model, scan / forward pass and gradient; null with the reason
  where the system does not tell.
- ``memory_growth``: peak memory of a whole scan process at the larger number of samples / at the smaller.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from shortcutscope.attribution.slope import Explained
from shortcutscope.benchmarks.peak import NotMeasurableError, peak_bytes, peaks_beside, return_memory_at_once
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.models.seeding import seeded
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.scan.capture import capture_batch
from shortcutscope.scan.pooling import pool_activation, positions
from shortcutscope.scan.scanner import scan
from shortcutscope.types import Record

#: Model, image size, batch.
COSTS = (("resnet18", 64, 16), ("resnet50", 224, 2), ("vgg16", 128, 2), ("vit_tiny", 224, 2))

#: What the suite is held to; the captum bars are lower bounds.
BARS = {
    "ratio_fb": 1.15,
    "ratio_all_vs_one": 1.15,
    "memory_ratio_fb": 1.0,
    "memory_growth": 1.1,
}
CAPTUM_BARS = {"resnet18": 5.0, "resnet50": 12.0}

TARGET = 0


def cases(settings: Settings) -> list[Case]:
    """One case per architecture, and one for the memory of a long scan."""
    small, large = (500, 2_000) if settings.quick else (1_000, 20_000)
    costs = [{"model": name, "input": size, "batch": batch} for name, size, batch in COSTS]
    growth = {"model": "thin_resnet18", "input": 32, "batch": 64, "samples": [small, large]}
    return [*costs, growth]


def run_case(case: Case, settings: Settings) -> Case:
    """Measure one case."""
    if "samples" in case:
        return _memory_growth(case, settings.seed)
    with _Bench(case, settings.seed) as bench:
        costs = bench.costs(*((5, 2) if settings.quick else (9, 3)))
    return {**costs, **in_process(_memory, case, settings.seed)}


def summarize(finished: list[Case]) -> Record:
    """The worst value of each measure, and whether every bar is met (null: as far as could be measured)."""
    worst = {key: max(_values(finished, key), default=None) for key in BARS}
    captum = {c["model"]: c["ratio_captum_per_layer"] for c in finished if c["model"] in CAPTUM_BARS}
    met = [value <= BARS[key] for key, value in worst.items() if value is not None]
    met += [captum[model] >= bar for model, bar in CAPTUM_BARS.items() if model in captum]
    missing = [key for key, value in worst.items() if value is None]
    missing += [f"captum_per_layer of {model}" for model in CAPTUM_BARS if model not in captum]
    return {
        **{f"worst_{key}": value for key, value in worst.items()},
        "captum_per_layer": captum,
        "bars": {**BARS, "captum_per_layer": CAPTUM_BARS},
        "bars_met": None if all(met) and missing else all(met),
        "bars_not_measured": missing,
    }


def cpu_times(
    functions: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """CPU seconds of each function in each round, alternated.

    Parameters
    ----------
    functions
        Called in this order in every round.
    rounds
        Times that each is measured.
    warm_up
        Rounds before that.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for current in range(-warm_up, rounds):
        for name, function in functions.items():
            start = time.process_time()
            function()
            if current >= 0:
                times[name].append(time.process_time() - start)
    return times


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


class FrozenBatch:
    """A model, its layers and a batch, on loan and laid out as for a scan."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x.contiguous(memory_format=torch.channels_last)
        self.layers = find_layers(self.model, self.x)

    def __enter__(self) -> Self:
        self._loan = ExitStack()
        self._loan.enter_context(frozen(self.model)).to(memory_format=torch.channels_last)
        return self

    def __exit__(self, *error: object) -> None:
        self._loan.close()

    def forward_backward(self) -> object:
        """Gradient of one class score with respect to the images: what scans are compared with."""
        image = self.x.clone().requires_grad_()
        return torch.autograd.grad(self.model(image)[:, TARGET].sum(), image)


class _Bench(FrozenBatch):
    """What is timed beside a forward and backward pass."""

    def __init__(self, case: Case, seed: int) -> None:
        super().__init__(*_model_and_batch(case, seed))

    def scan(self) -> object:
        return capture_batch(self.model, self.x, self.layers, Explained(TARGET))

    def scan_one(self) -> object:
        return capture_batch(self.model, self.x, self.layers[:1], Explained(TARGET))

    def costs(self, rounds: int, slow_rounds: int) -> Case:
        """CPU times against each other; captum layer by layer takes as long as dozens of scans."""
        times = cpu_times(
            {
                "fb": self.forward_backward,
                "scan": self.scan,
                "one": self.scan_one,
                "activations": lambda: self._captum_activations(self.layers),
                "relevance": lambda: self._captum_relevance(self.layers),
            },
            rounds,
        )
        # A single scan beside it would catch one moment of a busy machine where captum catches them all.
        scans = 5
        slow = cpu_times(
            {
                "scan": lambda: [self.scan() for _ in range(scans)],
                "activations": lambda: [self._captum_activations([layer]) for layer in self.layers],
                "relevance": lambda: [self._captum_relevance([layer]) for layer in self.layers],
            },
            slow_rounds,
            warm_up=0,
        )
        return {
            "layers": len(self.layers),
            "seconds_fb": statistics.median(times["fb"]),
            "ratio_fb": ratio(times["scan"], times["fb"]),
            "ratio_all_vs_one": ratio(times["scan"], times["one"]),
            "ratio_captum_per_layer_both": scans * ratio(_sum(slow), slow["scan"]),
            "ratio_captum_per_layer": scans * ratio(slow["relevance"], slow["scan"]),
            "ratio_captum_list_both": ratio(_sum(times), times["scan"]),
            "ratio_captum_list": ratio(times["relevance"], times["scan"]),
        }

    def _captum_activations(self, layers: Sequence[Layer]) -> object:
        from captum.attr import LayerActivation

        with torch.no_grad():
            maps = LayerActivation(self.model, self._modules(layers)).attribute(self.x)
        return [pool_activation(layer, values) for layer, values in zip(layers, maps, strict=True)]

    def _captum_relevance(self, layers: Sequence[Layer]) -> object:
        from captum.attr import LayerGradientXActivation

        image = self.x.clone().requires_grad_()
        maps = LayerGradientXActivation(self.model, self._modules(layers)).attribute(image, target=TARGET)
        views = [positions(layer, values.detach()) for layer, values in zip(layers, maps, strict=True)]
        return [(view.sum(dim), view.amax(dim)) for view, dim in views]

    def _modules(self, layers: Sequence[Layer]) -> list[nn.Module]:
        return [self.model.get_submodule(layer.name) for layer in layers]


def _sum(times: Mapping[str, Sequence[float]]) -> list[float]:
    """Of captum's two methods, round by round."""
    return [a + b for a, b in zip(times["activations"], times["relevance"], strict=True)]


def _memory(case: Case, seed: int) -> Case:
    """Peak memory beside that of a forward and backward pass; to be called in a process of its own."""
    torch.set_num_threads(1)
    try:
        return_memory_at_once()
        with _Bench(case, seed) as bench:
            fb, scan_peak = peaks_beside((bench.forward_backward, bench.scan))
    except NotMeasurableError as error:
        return {"memory_ratio_fb": None, "memory_reason": str(error)}
    return {
        "memory_ratio_fb": scan_peak / fb,
        "memory_fb_mib": fb / 2**20,
        "memory_scan_mib": scan_peak / 2**20,
    }


def _model_and_batch(case: Case, seed: int) -> tuple[nn.Module, Tensor]:
    """An untrained model whose batch norm does something, and random images."""
    name, size, batch = case["model"], case["input"], case["batch"]
    with seeded(seed):
        if name == "vit_tiny":
            import timm

            model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=10)
        else:
            import torchvision

            model = torchvision.models.get_model(name, num_classes=10)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.running_var, module.weight):
                    nn.init.uniform_(values, 0.5, 1.5)  # type: ignore[arg-type]
                for values in (module.running_mean, module.bias):
                    nn.init.normal_(values, 0, 0.1)  # type: ignore[arg-type]
        return model, torch.randn(batch, 3, size, size)


class _RandomImages(torch.utils.data.Dataset[Tensor]):
    """Images drawn when asked for, so that their number costs no memory."""

    def __init__(self, n: int, size: int, seed: int) -> None:
        self.n, self.size, self.seed = n, size, seed

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + i)
        return torch.rand(1, self.size, self.size, generator=generator)


def _memory_growth(case: Case, seed: int) -> Case:
    peaks = [in_process(_peak_of_scan, n, case["input"], case["batch"], seed) for n in case["samples"]]
    if None in peaks:
        return {"memory_growth": None, "memory_reason": "the system tells no peak memory"}
    small, large = peaks
    return {"memory_growth": large / small, "peak_small_mib": small / 2**20, "peak_large_mib": large / 2**20}


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a fresh process, whose peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _peak_of_scan(n: int, size: int, batch: int, seed: int) -> int | None:
    torch.set_num_threads(1)
    labels = np.random.default_rng(seed).integers(0, 2, n)
    table = ImageTable.from_dataset(_RandomImages(n, size, seed), pd.DataFrame({"label": labels}))
    with tempfile.TemporaryDirectory() as folder:
        scan(
            thin_resnet18(width=8),
            table,
            Path(folder) / "scan",
            running=Running(batch_size=batch, progress=False),
        )
        try:
            return peak_bytes()
        except NotMeasurableError:
            return None


def _values(finished: list[Case], key: str) -> list[float]:
    return [case[key] for case in finished if case.get(key) is not None]


SUITE = Suite(
    name="scan",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "model",
        "input",
        "batch",
        "layers",
        "ratio_fb",
        "ratio_all_vs_one",
        "ratio_captum_per_layer",
        "ratio_captum_list",
        "memory_ratio_fb",
        "memory_growth",
    ),
    serial=True,
)
