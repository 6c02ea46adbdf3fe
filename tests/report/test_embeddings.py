"""The page of an audit of embeddings: what it says, and that it is safe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import shortcutscope as ss
from shortcutscope.report.embeddings import summarize_embeddings

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def audit() -> ss.EmbeddingsAudit:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    site = np.where(rng.random(200) < 0.8, label, 1 - label)
    features = rng.normal(size=(200, 4))
    features[:, 0] += 1.5 * label
    features[:, 1] += 3 * site
    frame = pd.DataFrame({"label": label, HOSTILE: site, "ward": label, "id": [f"x{k}" for k in range(200)]})
    return ss.audit_embeddings(
        {"one": features, HOSTILE: features[:, 1:]},
        frame,
        statistics=ss.Statistics(n_permutations=60, n_bootstrap=20),
        correcting=ss.Correcting(["leace"]),
    )


def test_the_page_has_verdicts_side_by_side_and_what_corrections_change(
    audit: ss.EmbeddingsAudit, tmp_path: Path
) -> None:
    page = audit.report(tmp_path / "report.html").read_text()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert page.count('data-test="encoder"') == 2
    assert 'data-verdict="shortcut"' in page
    assert "LEACE" in page
    assert "http" not in page.replace("http-equiv", "")
    assert ">nan" not in page.lower()


def test_the_data_behind_it_say_what_was_not_tested_and_why(audit: ss.EmbeddingsAudit) -> None:
    report = summarize_embeddings(audit)
    assert {row["label"] for row in report["refused"]} == {"id"}
    assert [encoder["name"] for encoder in report["encoders"]] == ["one", HOSTILE]
    assert all(len(line["cells"]) == 2 for line in report["lines"])
    first = report["corrections"][0]
    assert [line["name"] for line in first["rows"]] == ["before", "LEACE"]
    assert len(first["rows"][0]["cells"]) == len(report["metrics"])


def test_a_notebook_shows_a_fragment_and_a_picture(audit: ss.EmbeddingsAudit) -> None:
    fragment = audit._repr_html_()
    assert fragment.lstrip().startswith("<div")
    assert "<html" not in fragment
    axes = audit.plot().axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["one", HOSTILE]
    assert any(text.get_text().endswith(" S") for text in axes.texts)
