"""Before and after a correction: what a fresh probe reads of patients that nothing was learnt from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import shortcutscope as ss
from shortcutscope.embeddings.before_after import METRICS
from shortcutscope.embeddings.corrections import leace_correction
from shortcutscope.types import Array

QUICK = ss.Statistics(n_permutations=60, n_bootstrap=20)


def made(n: int, d: int, strength: float) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    concept = np.where(rng.random(n) < 0.75, label, 1 - label)
    x = rng.normal(size=(n, d)) + np.outer(label, np.eye(d)[0]) + np.outer(concept, strength * np.eye(d)[1])
    return x, label, concept


def corrected(x: Array, frame: pd.DataFrame, **options: object) -> pd.Series:
    audit = ss.audit_embeddings(
        x, frame, concepts="concept", statistics=QUICK, correcting=ss.Correcting(["leace"]), **options
    )
    assert audit.findings[0].encoded["value"]
    return audit.corrections.set_index(["method", "metric"])


def test_what_looks_clean_where_it_was_learnt_is_read_from_others() -> None:
    x, label, concept = made(160, 300, 5.0)
    own = leace_correction(x, concept.astype(float), label)(x, concept.astype(float))
    for c in (0, 1):  # more features than samples: nothing is left of the concept in the samples themselves
        inside = label == c
        assert np.abs((concept[inside] - concept[inside].mean()) @ own[inside]).max() < 1e-6
    table = corrected(x, pd.DataFrame({"label": label, "concept": concept}))
    assert table.loc[("leace", "encoded_auroc"), "value"] > 0.6


def test_where_samples_are_many_nothing_can_be_read() -> None:
    x, label, concept = made(800, 6, 3.0)
    table = corrected(x, pd.DataFrame({"label": label, "concept": concept}))
    assert table.loc[("leace", "encoded_auroc"), "value"] == pytest.approx(0.5, abs=0.07)
    assert table.loc[("none", "encoded_auroc"), "value"] > 0.95
    low, high = table.loc[("leace", "robust_auroc"), ["low", "high"]]
    assert table.loc[("none", "robust_auroc"), "value"] < low < high


def test_what_some_patients_cannot_tell_is_said_and_not_measured() -> None:
    x, label, concept = made(160, 6, 5.0)
    patients = np.arange(160)
    concept = np.where(label == 1, 1, 0)
    rare = np.flatnonzero(label == 0)[:6]
    concept[rare], patients[rare] = 1, 0  # all that speak against the label are of one patient
    x[:, 1] = 5 * concept + x[:, 2]
    table = corrected(x, pd.DataFrame({"label": label, "concept": concept, "group": patients}))
    assert table.loc["leace"]["value"].isna().all()
    assert set(table.loc["leace"].index) == set(METRICS)
    assert table.loc["leace"]["why"].str.contains("too few samples").all()
