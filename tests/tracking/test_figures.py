"""Numbers and words of an audit, by names that trackers take."""

from __future__ import annotations

import json
import re

import shortcutscope as ss
from shortcutscope.tracking.figures import figures_of, words_of


def test_figures_are_those_of_the_run(finished_run):
    audit = ss.Audit.open(finished_run)
    figures, words = figures_of(audit), words_of(audit, "x")
    stored = {f["name"]: f for f in json.loads((finished_run / "findings.json").read_text())}
    effect = stored["scanner noise"]["effect"]["robust_auroc"]
    assert figures["shortcuts/scanner noise/robust_auroc"] == effect["value"]
    assert figures["shortcuts/scanner noise/robust_auroc_high"] == effect["interval"][1]
    assert (
        figures["shortcuts/auroc"]
        == json.loads((finished_run / "run.json").read_text())["performance"]["auroc"]
    )
    assert figures["shortcuts/found"] == 2
    assert words["x.tag"] == "shortcut"
    assert words["x.operator"] == "not testable"


def test_names_are_such_as_trackers_take_and_none_is_lost(run_dir, change_json):
    def rename(findings):
        for finding, name in zip(findings, ("größe", "gr??e", "gr!!e"), strict=False):
            finding["name"] = name

    change_json(run_dir / "findings.json", rename)
    audit = ss.Audit.open(run_dir)
    names = [*figures_of(audit), *words_of(audit)]
    assert all(re.fullmatch(r"[A-Za-z0-9_\-. /]+", name) for name in names)
    robust = [name for name in figures_of(audit) if name.endswith("/robust_auroc")]
    assert len(robust) == sum("robust_auroc" in f.effect for f in audit)
    assert len(words_of(audit)) == len(audit) + 2
