"""Find out whether a trained medical-image model leans on shortcuts, where, and what they cost.

The names below load their module on first use, so that ``import shortcutscope`` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from shortcutscope._version import __version__

_MODULES = {
    "ImageTable": "shortcutscope.data.table",
    "open_dataset": "shortcutscope.data.medical",
    "load_model": "shortcutscope.models.loading",
    "find_layers": "shortcutscope.models.layers",
    "frozen": "shortcutscope.models.frozen",
    "attribute": "shortcutscope.attribution.attribute",
    "Attribution": "shortcutscope.attribution.attribute",
    "model_randomization": "shortcutscope.attribution.randomization",
    "Head": "shortcutscope.models.heads.head",
    "Labels": "shortcutscope.data.manifests.labels",
    "Scan": "shortcutscope.scan.scanner",
    "Concept": "shortcutscope.probes.concept",
    "annotate": "shortcutscope.facade",
    "audit": "shortcutscope.audit",
    "Audit": "shortcutscope.facade",
    "Finding": "shortcutscope.facade",
    "audit_embeddings": "shortcutscope.facade",
    "EmbeddingsAudit": "shortcutscope.facade",
    "LinearHead": "shortcutscope.embeddings.heads",
    "Correcting": "shortcutscope.embeddings.stages",
    "robustness_index": "shortcutscope.embeddings.robustness",
    "screen_metadata": "shortcutscope.discover.metadata",
    "model_preprocessing": "shortcutscope.models.loading",
    "check_preprocessing": "shortcutscope.audit.preprocessing.check",
    "draw_readings": "shortcutscope.report.preprocessing",
    "Circuit": "shortcutscope.discover.circuits",
    "draw_circuit": "shortcutscope.report.circuit",
    "Retrieval": "shortcutscope.retrieval.retrieval",
    "Hits": "shortcutscope.retrieval.hits",
    "Marks": "shortcutscope.retrieval.marks",
    "read_marks": "shortcutscope.retrieval.imports",
    "read_drawn_marks": "shortcutscope.masks.drawn_marks",
    "compare": "shortcutscope.compare",
    "Comparison": "shortcutscope.facade",
    "amplification_curve": "shortcutscope.facade",
    "Amplification": "shortcutscope.facade",
    "review": "shortcutscope.review",
    "MaskSet": "shortcutscope.masks.maskset",
    "debias": "shortcutscope.debias",
    "distill": "shortcutscope.debias.unlearn",
    "Student": "shortcutscope.debias.student",
    "Training": "shortcutscope.debias.training.fit",
    "Normalize": "shortcutscope.data.transform",
    "InputError": "shortcutscope.errors",
    "holdout": "shortcutscope.data.splits",
    "grouped_folds": "shortcutscope.data.splits",
    "predict_logits": "shortcutscope.scan.predictions",
    "train_classifier": "shortcutscope.debias.training.classifier",
    "draw_overlays": "shortcutscope.report.overlay",
    "draw_areas": "shortcutscope.report.overlay",
    "review_order": "shortcutscope.review.order",
    "input_masks": "shortcutscope.debias.pixel_masks",
    "phantoms": "shortcutscope.planting",
    "Running": "shortcutscope.options",
    "Statistics": "shortcutscope.options",
    "Recording": "shortcutscope.options",
    "Scanning": "shortcutscope.scan.plan",
    "TextNaming": "shortcutscope.models.texts",
    "TrainingData": "shortcutscope.audit.audited_data",
    "Comparing": "shortcutscope.compare.options",
    "Drawing": "shortcutscope.masks.learning",
    "Judging": "shortcutscope.discover.circuits",
    "Shortcut": "shortcutscope.debias.options",
    "Retraining": "shortcutscope.debias.options",
    "intervene": "shortcutscope.pixels.intervening",
    "Intervening": "shortcutscope.pixels.options",
    "PixelTest": "shortcutscope.pixels.result",
    "log_mlflow": "shortcutscope.tracking.loggers",
    "log_wandb": "shortcutscope.tracking.loggers",
    "lightning_callback": "shortcutscope.tracking.lightning",
}

#: Names that are modules themselves; the first three are called like functions.
_WHOLE = ("audit", "compare", "debias", "review", "phantoms")

__all__ = [
    "Amplification",
    "Attribution",
    "Audit",
    "Circuit",
    "Comparing",
    "Comparison",
    "Concept",
    "Correcting",
    "Drawing",
    "EmbeddingsAudit",
    "Finding",
    "Head",
    "Hits",
    "ImageTable",
    "InputError",
    "Intervening",
    "Judging",
    "Labels",
    "LinearHead",
    "Marks",
    "MaskSet",
    "Normalize",
    "PixelTest",
    "Recording",
    "Retraining",
    "Retrieval",
    "Running",
    "Scan",
    "Scanning",
    "Shortcut",
    "Statistics",
    "Student",
    "TextNaming",
    "Training",
    "TrainingData",
    "__version__",
    "amplification_curve",
    "annotate",
    "attribute",
    "audit",
    "audit_embeddings",
    "check_preprocessing",
    "compare",
    "debias",
    "distill",
    "draw_areas",
    "draw_circuit",
    "draw_overlays",
    "draw_readings",
    "find_layers",
    "frozen",
    "grouped_folds",
    "holdout",
    "input_masks",
    "intervene",
    "lightning_callback",
    "load_model",
    "log_mlflow",
    "log_wandb",
    "model_preprocessing",
    "model_randomization",
    "open_dataset",
    "phantoms",
    "predict_logits",
    "read_drawn_marks",
    "read_marks",
    "review",
    "review_order",
    "robustness_index",
    "screen_metadata",
    "train_classifier",
]

if TYPE_CHECKING:
    from shortcutscope import planting as phantoms
    from shortcutscope.attribution.attribute import Attribution, attribute
    from shortcutscope.attribution.randomization import model_randomization
    from shortcutscope.audit.audited_data import TrainingData
    from shortcutscope.audit.preprocessing.check import check_preprocessing
    from shortcutscope.compare.options import Comparing
    from shortcutscope.data.manifests.labels import Labels
    from shortcutscope.data.medical import open_dataset
    from shortcutscope.data.splits import grouped_folds, holdout
    from shortcutscope.data.table import ImageTable
    from shortcutscope.data.transform import Normalize
    from shortcutscope.debias.options import Retraining, Shortcut
    from shortcutscope.debias.pixel_masks import input_masks
    from shortcutscope.debias.student import Student
    from shortcutscope.debias.training.classifier import train_classifier
    from shortcutscope.debias.training.fit import Training
    from shortcutscope.debias.unlearn import debias, distill
    from shortcutscope.discover.circuits import Circuit, Judging
    from shortcutscope.discover.metadata import screen_metadata
    from shortcutscope.embeddings.heads import LinearHead
    from shortcutscope.embeddings.robustness import robustness_index
    from shortcutscope.embeddings.stages import Correcting
    from shortcutscope.errors import InputError
    from shortcutscope.facade import (
        Audit,
        Comparison,
        EmbeddingsAudit,
        Finding,
        annotate,
        audit,
        audit_embeddings,
        compare,
        review,
    )
    from shortcutscope.masks.drawn_marks import read_drawn_marks
    from shortcutscope.masks.learning import Drawing
    from shortcutscope.masks.maskset import MaskSet
    from shortcutscope.models.frozen import frozen
    from shortcutscope.models.heads.head import Head
    from shortcutscope.models.layers import find_layers
    from shortcutscope.models.loading import load_model, model_preprocessing
    from shortcutscope.models.texts import TextNaming
    from shortcutscope.options import Recording, Running, Statistics
    from shortcutscope.pixels.intervening import intervene
    from shortcutscope.pixels.options import Intervening
    from shortcutscope.pixels.result import PixelTest
    from shortcutscope.probes.concept import Concept
    from shortcutscope.report.circuit import draw_circuit
    from shortcutscope.report.overlay import draw_areas, draw_overlays
    from shortcutscope.report.preprocessing import draw_readings
    from shortcutscope.retrieval.hits import Hits
    from shortcutscope.retrieval.imports import read_marks
    from shortcutscope.retrieval.marks import Marks
    from shortcutscope.retrieval.retrieval import Retrieval
    from shortcutscope.review.order import review_order
    from shortcutscope.scan.plan import Scanning
    from shortcutscope.scan.predictions import predict_logits
    from shortcutscope.scan.scanner import Scan
    from shortcutscope.tracking.lightning import lightning_callback
    from shortcutscope.tracking.loggers import log_mlflow, log_wandb


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES[name])
    value = module if name in _WHOLE else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
