"""Does a map point at what the network uses?

Thin networks that lean on a planted localized artifact, real radiographs and phantoms. The artifact is put
on held-out samples of the class that it does not go with; of these the ones whose margin towards the
other class it moves most are explained, by that margin. What speaks for that class is the artifact, whose
pixels are known exactly.

- ``inside``: share of the positive relevance on the artifact's pixels; a map of noise has ``area``.
- ``pointing``: share of the samples whose maximum (after the same slight smoothing for all) lies on it.
- ``flipping``, ``road``: mean fall of the score while up to 30 % of the pixels are removed, the most
  relevant first; see `shortcutscope.benchmarks.attributions.perturbation`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from shortcutscope.attribution.attribute import attribute
from shortcutscope.benchmarks.attributions.perturbation import drops, flip, impute
from shortcutscope.benchmarks.models import Case as Trained
from shortcutscope.benchmarks.models import Recipe, make_case, tasks
from shortcutscope.benchmarks.runner import Case, Settings, Suite
from shortcutscope.data.table import ImageTable
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.planting import artifact_mask, clean_twin, plant
from shortcutscope.types import Array, Record

KINDS = tuple(name for name, artifact in CATALOGUE.items() if artifact.extent == "localized")
QUICK_KINDS = ("tag",)
#: Class that the artifact goes with in training.
POSITIVE = 1
SMOOTHING = 1.0
MEASURES = ("inside", "pointing", "flipping", "road")

#: Samples out of which the most affected are taken.
CANDIDATES = 200

Map = Callable[[nn.Module, Tensor], Tensor]


class Margin(nn.Module):
    """A two-class network as a binary one: the logit of the shortcut's class minus the other."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1)."""
        logits: Tensor = self.model(x)
        return (logits[:, POSITIVE] - logits[:, 1 - POSITIVE]).unsqueeze(1)


def _ours(method: str, **options: Any) -> Map:
    def draw(model: nn.Module, x: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a fallback would be another method's result
            return attribute(model, x, target=POSITIVE, method=method, **options).on_pixels()

    return draw


def _grad_cam(pick: Callable[[list[Layer]], Layer]) -> Map:
    def draw(model: nn.Module, x: Tensor) -> Tensor:
        layer = pick([layer for layer in find_layers(model, x[:1]) if layer.spatial])
        return attribute(model, x, target=POSITIVE, method="grad_cam", layer=layer).on_pixels()

    return draw


def _captum(name: str, **options: Any) -> Map:
    def draw(model: nn.Module, x: Tensor) -> Tensor:
        import captum.attr

        with frozen(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # captum announces the hooks that it sets
            method = getattr(captum.attr, name)(model)
            relevance: Tensor = method.attribute(x.clone().requires_grad_(), target=0, **options)
        return relevance.detach().sum(1)

    return draw


def _finest(layers: list[Layer]) -> Layer:
    """The deepest layer that still has twelve cells a side."""
    return [layer for layer in layers if min(layer.grid) >= 12][-1]


#: Captum's methods, also those that it shares with our own signature (their equality is tested).
CAPTUM: dict[str, Map] = {
    "gradient_x_input": _ours("gradient_x_input"),
    "integrated_gradients": _ours("integrated_gradients"),
    "smoothgrad": _ours("smoothgrad"),
    "grad_cam (last layer)": _grad_cam(lambda layers: layers[-1]),
    "grad_cam (12 cells)": _grad_cam(_finest),
    "deep_lift": _captum("DeepLift"),
    "guided_backprop": _captum("GuidedBackprop"),
    "occlusion": _captum("Occlusion", sliding_window_shapes=(1, 8, 8), strides=(1, 4, 4)),
}
LRP: dict[str, Map] = {
    "lrp": _ours("lrp"),
    "lrp:epsilon_plus_flat": _ours("lrp:epsilon_plus_flat"),
    "lrp:epsilon_gamma": _ours("lrp:epsilon_gamma"),
    "lrp:epsilon_alpha2_beta1": _ours("lrp:epsilon_alpha2_beta1", check=False),
    "lrp:epsilon": _ours("lrp:epsilon"),
    "zennit:epsilon_plus": _ours("zennit:epsilon_plus", strict=True),
}


def cases(settings: Settings) -> list[Case]:
    """Every localized kind x two tasks, one seed."""
    kinds = QUICK_KINDS if settings.quick else KINDS
    names = tasks(settings)[1:] if settings.quick else tasks(settings)
    return [
        {"task": task, "kind": kind, "seed": settings.seed, "samples": 16 if settings.quick else 48}
        for task in names
        for kind in kinds
    ]


def run_case(case: Case, settings: Settings) -> Case:
    """All methods on one model."""
    study = make_case(Recipe(case["task"], (case["kind"],), case["seed"]), settings)
    model = Margin(study.model).eval()

    def scores(x: Tensor) -> Tensor:
        with torch.no_grad(), frozen(model):
            margins: Tensor = model(x)
        return margins[:, 0]

    images, masks, moved = _carriers(case, study, scores)
    methods: dict[str, Record] = {}
    generator = torch.Generator().manual_seed(case["seed"])
    maps: dict[str, Map] = {
        **CAPTUM,
        **LRP,
        "random": lambda model, x: torch.rand(len(x), *x.shape[2:], generator=generator),
    }
    for name, draw in maps.items():
        try:
            heat = draw(model, images).detach().float()
        except Exception as error:  # what a method cannot do is a result
            methods[name] = {**dict.fromkeys(MEASURES), "reason": f"{type(error).__name__}: {error}"}
            continue
        methods[name] = _measured(heat, masks, images, scores)
    lrp_share = methods["lrp"]["inside"]
    rivals = {name: methods[name]["inside"] for name in CAPTUM if methods[name]["inside"] is not None}
    best = max(rivals, key=lambda name: rivals[name])
    return {
        "area": float(masks.mean()),
        "moved_by_artifact": moved,
        "methods": methods,
        "lrp_inside": lrp_share,
        "lrp_gamma_inside": methods["lrp:epsilon_gamma"]["inside"],
        "captum_best": best,
        "captum_inside": rivals[best],
        "lrp_pointing": methods["lrp"]["pointing"],
        "captum_pointing": max(methods[name]["pointing"] for name in rivals),
    }


def summarize(finished: list[Case]) -> Record:
    """Means of every method over the models, and whether LRP is at least as good as captum's best."""
    table: dict[str, dict[str, float]] = {}
    for name in (*CAPTUM, *LRP, "random"):
        done = [c["methods"][name] for c in finished if c["methods"][name]["inside"] is not None]
        if done:
            table[name] = {m: float(np.mean([one[m] for one in done])) for m in MEASURES}
            table[name]["models"] = len(done)
    best = {
        measure: max((name for name in CAPTUM if name in table), key=lambda n: table[n][measure])
        for measure in MEASURES
        if table
    }
    return {
        "models": len(finished),
        "area": float(np.mean([case["area"] for case in finished])) if finished else None,
        "methods": table,
        "captum_best": best,
        "at_least_as_good": {
            method: {m: table[method][m] >= table[name][m] for m, name in best.items()}
            for method in LRP
            if method in table
        },
    }


def _carriers(case: Case, study: Trained, scores: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, float]:
    """Images (N, C, H, W) that the artifact moves most, its pixels (N, H, W), and the mean change."""
    carried = plant(
        study.held_out,
        CATALOGUE[case["kind"]],
        prevalence={0: 1.0, 1: 0.0},
        seed=case["seed"] + 1000,
    )
    rows = np.flatnonzero(carried.frame["label"].to_numpy() != POSITIVE)
    rows = np.random.default_rng([case["seed"], 17]).permutation(rows)[:CANDIDATES]
    clean = clean_twin(carried)
    images = torch.stack([carried[int(i)][0] for i in rows])
    change = scores(images) - scores(torch.stack([clean[int(i)][0] for i in rows]))
    most = change.argsort(descending=True)[: case["samples"]]
    return images[most], _masks(carried, rows[most.numpy()]), float(change[most].mean())


def _masks(table: ImageTable, rows: Array) -> Tensor:
    return torch.stack([artifact_mask(table, int(i)) for i in rows]).float()


def _measured(
    maps: Tensor, masks: Tensor, images: Tensor, scores: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    positive = maps.clamp(min=0)
    total = positive.flatten(1).sum(1)
    inside = (positive * masks).flatten(1).sum(1) / total.clamp(min=1e-30)
    # Three standard deviations either side, and nothing of one image in another's.
    smooth = torch.from_numpy(gaussian_filter(maps.numpy(), (0, SMOOTHING, SMOOTHING), truncate=3))
    top = smooth.flatten(1).argmax(1, keepdim=True)
    return {
        "inside": float(inside.mean()),
        "pointing": float(masks.flatten(1).gather(1, top).mean()),
        "flipping": float(drops(scores, images, maps, flip).mean()),
        "road": float(drops(scores, images, maps, impute).mean()),
    }


SUITE = Suite(
    name="faithfulness",
    cases=cases,
    run_case=run_case,
    summarize=summarize,
    columns=(
        "task",
        "kind",
        "seed",
        "area",
        "lrp_inside",
        "lrp_gamma_inside",
        "captum_best",
        "captum_inside",
        "lrp_pointing",
        "captum_pointing",
    ),
)
