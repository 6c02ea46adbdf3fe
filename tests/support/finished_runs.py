"""A synthetic run directory with one finding of each verdict, by the schema that an audit writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shortcutscope.files import slug

LAYERS = ["stem", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1))]
DEPTHS = np.linspace(0, 1, len(LAYERS))

# name, verdict, extent, availability over depth, use over depth, share of carriers in each class
CONCEPTS: list[tuple[str, str, str, tuple[float, float], tuple[float, float], tuple[float, float]]] = [
    ("tag", "shortcut", "localized", (0.78, 0.97), (0.06, 0.92), (0.06, 0.94)),
    ("scanner noise", "shortcut", "diffuse", (0.99, 0.93), (0.12, 0.55), (0.10, 0.83)),
    ("sex", "encoded, not used", "undetermined", (0.66, 0.81), (0.01, 0.06), (0.47, 0.52)),
    ("room", "not encoded", "undetermined", (0.50, 0.53), (0.00, 0.02), (0.33, 0.30)),
]
UNTESTABLE = "operator"


def cell_map(extent: str, rng: np.random.Generator, strength: float = 1.0) -> list[list[float]]:
    cells = 0.5 + 0.02 * rng.standard_normal((8, 8))
    if extent == "diffuse":
        cells += 0.36 * strength + 0.05 * rng.standard_normal((8, 8))
    elif extent == "localized":
        cells[0:2, 6:8] += 0.45 * strength
    return [[float(value) for value in row] for row in np.clip(cells, 0.35, 1)]


def profile_rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, _, extent, (first, last), (use_first, use_last), _ in CONCEPTS:
        for position, (layer, depth) in enumerate(zip(LAYERS, DEPTHS, strict=True)):
            auroc = first + (last - first) * depth + 0.008 * rng.standard_normal()
            use = use_first + (use_last - use_first) * depth**2 + 0.01 * rng.standard_normal()
            encoded = auroc > 0.56
            rows.append(
                {
                    "concept": name, "layer": layer, "depth": depth, "layout": "NCHW",
                    "channels": 16 * 2 ** max(0, (position - 1) // 2),
                    "auroc": auroc, "auroc_low": auroc - 0.03, "auroc_high": min(auroc + 0.03, 1.0),
                    "naive_auroc": auroc - 0.1, "null_mean": 0.5, "null_high": 0.55,
                    "p": 0.005 if encoded else 0.4, "q": 0.009 if encoded else 0.52,
                    "derivative": use * 0.8, "derivative_p": 0.01,
                    "use": use, "use_low": use - 0.06, "use_high": use + 0.06,
                    "use_p": 0.005 if use > 0.2 else 0.3, "use_flip_rate": max(use, 0) * 0.3,
                    "extent_statistic": {"diffuse": 0.93, "localized": 0.07}.get(extent, np.nan),
                    "extent": extent, "participation": 0.31, "effective_rank": 3.0,
                    "weight": max(use, 0) / 4,
                }
            )  # fmt: skip
    return rows


def measured(value: float, half: float) -> dict[str, Any]:
    return {"value": value, "interval": [value - half, value + half]}


def finding(name: str, rng: np.random.Generator) -> dict[str, Any]:
    _, verdict, extent, (first, last), (_, use), shares = next(row for row in CONCEPTS if row[0] == name)
    is_shortcut, encoded = verdict == "shortcut", verdict != "not encoded"
    robust = {"tag": 0.712, "scanner noise": 0.861}.get(name, 0.941)
    aligned = 0.984 if is_shortcut else 0.951
    statistic = {"localized": 0.07, "diffuse": 0.93}.get(extent, 0.22 if name == "sex" else None)
    return {
        "name": name,
        "origin": "planted" if is_shortcut else "metadata",
        "description": f"column {name!r}",
        "verdict": verdict,
        "reason": "",
        "extent": extent,
        "extent_statistic": statistic,
        "extent_interval": None if statistic is None else [max(statistic - 0.05, 0), statistic + 0.05],
        "extent_reason": "",
        "layers": {"layer4.0": 0.3, "layer4.1": 0.7} if is_shortcut else {},
        "encoded": {
            "value": encoded, "auroc": max(first, last),
            "interval": [max(first, last) - 0.03, min(max(first, last) + 0.03, 1.0)],
            "layer": "layer4.1" if last > first else "stem",
            "p": 0.005 if encoded else 0.41, "q": 0.009 if encoded else 0.52,
        },
        "used": {
            "value": is_shortcut, "effect": use, "interval": [use - 0.06, use + 0.06], "threshold": 0.2,
            "p": 0.005 if is_shortcut else 0.3, "layer": "layer4.1", "flip_rate": use * 0.4,
        },
        "association": {
            "value": is_shortcut, "phi": shares[1] - shares[0], "p": 0.0001 if is_shortcut else 0.6,
            "q": 0.0003 if is_shortcut else 0.7, "source": "audited data",
            "carriers_by_class": {"0": shares[0], "1": shares[1]},
        },
        "effect": {
            "robust_auroc": measured(robust, 0.04), "aligned_auroc": measured(aligned, 0.01),
            "auroc_gap": measured(aligned - robust, 0.041),
            "worst_group_accuracy": measured(robust - 0.2, 0.07),
            "balanced_auroc": measured(0.9, 0.02), "flip_rate": measured(use * 0.4, 0.03),
        },
        "n_samples": {"known": 1200, "carriers": 590, "conflicting": 71, "groups": 804},
        "power": {"smallest_effect": 0.13, "95/5": 1.0, "80/20": 0.88, "70/30": 0.5, "60/40": 0.12},
        "evidence": {
            "cell_map": cell_map(extent, rng) if encoded else None,
            "participation": {"present=1": 0.041, "present=0": 0.012},
            "places": {"quiet": 0.52, "moving": None, "loud": 0.97, "by_chance": 0.55},
            "layers": {
                layer: {"statistic": None if statistic is None else min(statistic + 0.02 * i, 1),
                        "cell_map": cell_map(extent, rng, 1 - 0.05 * i)}
                for i, layer in enumerate(LAYERS)
            } if encoded else {},
        },
        "samples": {"most_affected": [f"img-{i:04d}" for i in range(6)] if is_shortcut else []},
        "notes": ["Both values were named in turn; the extent did not change."] if is_shortcut else [],
    }  # fmt: skip


def untestable() -> dict[str, Any]:
    return {
        "name": UNTESTABLE, "origin": "metadata", "description": "column 'operator'",
        "verdict": "not testable", "reason": "only 3 of 1200 samples carry it; at least 20 are needed",
        "extent": "undetermined", "extent_statistic": None, "extent_interval": None, "extent_reason": "",
        "layers": {},
        "encoded": {"value": False, "auroc": None, "interval": None, "layer": None, "p": None, "q": None},
        "used": {"value": False, "effect": None, "interval": None, "threshold": 0.2, "p": None,
                 "layer": None, "flip_rate": None},
        "association": {"value": False, "phi": None, "p": None, "q": None, "source": "audited data",
                        "carriers_by_class": {"0": 0.004, "1": 0.001}},
        "effect": {}, "n_samples": {"known": 1200, "carriers": 3, "conflicting": 2, "groups": 804},
        "power": {}, "evidence": {}, "samples": {}, "notes": [],
    }  # fmt: skip


def radiograph(rng: np.random.Generator, side: int = 64) -> np.ndarray:
    """A chest-like picture: two dark lungs in a bright oval."""
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    body = np.exp(-((x / 0.85) ** 4) - (y / 1.1) ** 6)
    lungs = sum(np.exp(-(((((x - c) / 0.28) ** 2) + ((y / 0.6) ** 2)) ** 2)) for c in (-0.4, 0.4))
    return np.clip(0.75 * body - 0.5 * lungs + 0.04 * rng.standard_normal((side, side)), 0, 1)


def write_gallery(path: Path, extent: str, rng: np.random.Generator, k: int = 6) -> None:
    images, maps = [], []
    for _ in range(k):
        image, relevance = radiograph(rng), 0.15 * rng.standard_normal((64, 64))
        if extent == "localized":
            image[4:12, 46:60] = 0.95
            relevance[3:13, 45:61] += 1.4 * rng.random()
        else:
            relevance += rng.standard_normal((64, 64)) * 0.5
        images.append(np.round(image * 255).astype(np.uint8))
        maps.append(relevance.astype(np.float16))
    np.savez(
        path,
        images=np.stack(images),
        maps=np.stack(maps),
        sample_ids=np.array([f"img-{i:04d}" for i in range(k)]),
        captions=np.array(
            [f"label 0, predicted 1, change of the logit {2.4 - 0.2 * i:.1f}" for i in range(k)]
        ),
    )


def run_json() -> dict[str, Any]:
    return {
        "version": "0.1.0", "created": "2025-06-12T09:41:07+00:00",
        "command": "shortcutscope audit torchvision:resnet18 val.csv --out runs/chest --weights w.pt",
        "seed": 0, "device": "cpu",
        "environment": {"python": "3.11.9", "torch": "2.6.0", "torchvision": "0.21.0", "numpy": "1.26.4"},
        "model": {"spec": "torchvision:resnet18", "class": "torchvision.models.resnet.ResNet",
                  "fingerprint": "9f2c" * 16, "parameters": 11_177_538},
        "data": {"fingerprint": "a07b" * 16, "n_samples": 1200, "n_groups": 804,
                 "classes": ["normal", "pneumonia"], "value_range": [0.0, 1.0], "transform": "Normalize",
                 "skipped": [["img-0812", "truncated PNG file"]]},
        "layers": [{"name": name, "kind": "Block", "layout": "NCHW", "shape": [64, 9, 9], "depth": d}
                  for name, d in zip(LAYERS, DEPTHS, strict=True)],
        "settings": {"layers": "blocks", "target": "predicted", "n_permutations": 200,
                     "extent": {"lit_above": 0.6, "localized_below": 0.35, "diffuse_above": 0.65}},
        "refused_columns": {"accession": "1200 different values: at most 12 can be levels"},
        "stages": {stage: {"state": "done", "seconds": seconds} for stage, seconds in
                   [("verify", 2.1), ("scan", 41.7), ("probe", 12.3), ("usage", 5.8), ("extent", 9.9),
                    ("gallery", 1.4)]},
        "warnings": ["The audited images are the training images: effects look about twice as large there."],
        "assumptions": ["No patient column was given: every image counts as its own group."],
        "performance": {"auroc": 0.962, "accuracy": 0.913, "balanced_accuracy": 0.907, "ece": 0.041},
    }  # fmt: skip


def write_run(path: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    (path / "gallery").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(run_json()), encoding="utf-8")
    findings = [finding(name, rng) for name, *_ in CONCEPTS]
    (path / "findings.json").write_text(json.dumps([*findings, untestable()]), encoding="utf-8")
    pd.DataFrame(profile_rows(rng)).to_parquet(path / "profile.parquet", index=False)
    samples = pd.DataFrame({"sample_id": [f"img-{i:04d}" for i in range(20)]})
    samples.to_parquet(path / "concepts.parquet", index=False)
    for name, verdict, extent, *_ in CONCEPTS:
        if verdict == "shortcut":
            write_gallery(path / "gallery" / f"{slug(name)}.npz", extent, rng)
    return path


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run; every test gets its own copy, so that it may break it."""
    return write_run(tmp_path / "run")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run shared by the tests of a module that only read it."""
    return write_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture
def change_json():
    """Edit a JSON file of a run in place: ``change_json(path, edit)``."""

    def change(path: Path, edit) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        edit(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return change
