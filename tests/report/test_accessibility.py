"""The pages by the rules of axe: none is broken, in light and dark, and figures are readable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("axe_playwright_python", reason="axe is not installed")

from axe_rules import broken_rules

from shortcutscope.report.html import write_report
from shortcutscope.retrieval.hits import Hits


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_is_broken_by_the_report(browser, finished_run, tmp_path, scheme):
    found, smallest = broken_rules(browser, write_report(finished_run, tmp_path / "report.html"), scheme)
    assert found == []
    assert smallest >= 11


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_is_broken_by_the_hits(browser, tmp_path, scheme):
    frame = pd.DataFrame(
        {"rank": [1, 2], "sample_id": ["a", "b"], "score": [0.9, 0.5], "mark": [1.0, np.nan]}
    )
    hits = Hits("tag", frame, ("a note",), {"a": np.zeros((8, 8), np.uint8)})
    assert broken_rules(browser, hits.to_html(tmp_path / "hits.html"), scheme)[0] == []
