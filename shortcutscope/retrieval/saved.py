"""The classifier that a retrieval saved, and the scores of new images by it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from shortcutscope.files import read_json
from shortcutscope.options import Running
from shortcutscope.probes.cav import CAV
from shortcutscope.retrieval.views import views_of

if TYPE_CHECKING:
    from torch import nn

    from shortcutscope.data.table import ImageTable


def score_images(
    vector: CAV,
    views: Sequence[str],
    model: nn.Module,
    data: ImageTable,
    running: Running | None = None,
) -> pd.Series[float]:
    """Score new images by a saved classifier: a scan of the same layers of the same model.

    Parameters
    ----------
    vector, views
        Of a retrieval, or as :func:`open_classifier` reads them.
    model
        The network whose layers the views name; given back as it was.
    data
        New images.
    running
        How they are scanned.

    Raises
    ------
    InputError
        When a view has another width there: it is another model.
    """
    features = views_of(model, data, views, running)
    scores = vector.score(features.features, features.quantity)
    return pd.Series(scores, index=pd.Index(data.frame["sample_id"].astype(str)), name="score")


def open_classifier(folder: str | Path) -> tuple[CAV, tuple[str, ...]]:
    """Read the classifier and its views from what :meth:`Retrieval.save` wrote."""
    folder = Path(folder)
    return CAV.open(folder / "vector.safetensors"), tuple(read_json(folder / "views.json")["views"])
