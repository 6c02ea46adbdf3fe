"""What an audit rests on: software, model, data and plain performance, as ``run.json`` keeps them."""

from __future__ import annotations

import platform
from importlib.metadata import version

import numpy as np
from torch import nn

from shortcutscope._version import __version__
from shortcutscope.audit.audited_data import AuditedData
from shortcutscope.audit.run_directory import RunDirectory
from shortcutscope.audit.scored import ScoredSamples
from shortcutscope.data.table import ImageTable
from shortcutscope.models.loading import load_report
from shortcutscope.models.preprocessing import Preprocessing
from shortcutscope.options import Recording
from shortcutscope.progress import in_notebook
from shortcutscope.scan.scanner import Scan
from shortcutscope.stats.metrics import auroc, expected_calibration_error


def not_measured(scanned: Scan) -> dict[str, str]:
    """Columns of the profile that such a scan leaves empty, and why."""
    if scanned.has_gradient:
        return {}
    if not scanned.has_relevance:
        why = scanned.attribution.warning or "the scan was made without relevance"
        return dict.fromkeys(("derivative", "derivative_p", "maps of the most affected samples"), why)
    why = (
        f"the scan's relevances are {scanned.attribution}, whose backward pass gives no gradient; "
        "no verdict depends on it"
    )
    return {"derivative": why, "derivative_p": why}


def performance(scanned: ScoredSamples) -> dict[str, float | None]:
    """Plain performance on the audited samples: AUROC, accuracy, balanced accuracy, calibration error."""
    labels = scanned.samples["label"].to_numpy()
    predicted = scanned.samples["prediction"].to_numpy()
    classes = np.unique(labels)
    recalls = [float((predicted[labels == c] == c).mean()) for c in classes]
    logits = scanned.logits.astype(float)
    if logits.shape[1] == 1:
        probabilities = 1 / (1 + np.exp(-logits[:, 0]))
    else:
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = shifted / shifted.sum(1, keepdims=True)
    aurocs = [float(auroc((labels == c).astype(float), scanned.margin(int(c)))) for c in classes]
    return {
        "auroc": aurocs[-1] if len(classes) == 2 else float(np.mean(aurocs)),
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "ece": float(expected_calibration_error(labels, probabilities))
        if scanned.task != "multilabel"
        else None,
    }


def describe(
    run: RunDirectory,
    model: nn.Module,
    audited: AuditedData,
    record: Recording,
    fingerprint: str,
) -> None:
    """Keep software, model and data of an audit in its run."""
    table = audited.table
    packages = ("torch", "torchvision", "scikit-learn", "numpy", "captum", "zennit")
    environment = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **{name: version(name) for name in packages},
        "interpreter": "notebook" if in_notebook() else "script",
    }
    network = {
        "name": record.name,
        "spec": record.model_spec,
        "class": type(model).__qualname__,
        "fingerprint": fingerprint,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    data = {
        "fingerprint": table.fingerprint(),
        "n_samples": len(table),
        "n_groups": int(table.frame["group"].nunique()) if table.has_groups else None,
        "classes": list(table.classes or []),
        "value_range": list(table.value_range),
        "transform": repr(table.transform),
        "skipped": [],
    }
    run.update(
        {
            "version": __version__,
            "command": record.command or "shortcutscope.audit(...)",
            "environment": environment,
            "model": network,
            "data": data,
            "assumptions": [*audited.assumptions, *_chosen_weights(model), *_own_preprocessing(table)],
        }
    )


def _chosen_weights(model: nn.Module) -> list[str]:
    """Which of several weights in a checkpoint the model has, where nobody said it."""
    report = load_report(model)
    return [f"weights: {report}"] if report is not None and report.beside else []


def _own_preprocessing(table: ImageTable) -> list[str]:
    """What the model's source knew of how images are to be read, where the table takes it over."""
    own = table.transform
    return [f"images are read as {own.origin} asks for: {own}"] if isinstance(own, Preprocessing) else []
