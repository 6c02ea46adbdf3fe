"""The report says what was searched, what came of each proposal, and which metadata go with the label."""

import json

from shortcutscope.report.html import render
from shortcutscope.report.search import MAX_DROPPED, summarize_search

PROPOSAL = {
    "name": "discovered 1", "views": ["filters: 24 components, all classes", "relevance: clusters at b"],
    "shares": {"0": 0.05, "1": 0.94}, "logit_gap": 1.4, "strength": 9.4, "dropped": "",
}  # fmt: skip
RUN = {
    "discovery": {
        "looked_at": 217, "proposals": [PROPOSAL, {**PROPOSAL, "name": "discovered 2"}],
        "same": {"discovered 2": "names the same samples as <site>, which is tested"},
        "dropped": [{**PROPOSAL, "name": f"discovered {k}", "dropped": "one group"} for k in range(3, 18)],
        "notes": ["nothing was looked for in relevances"],
    },
    "metadata": {
        "columns": [{"column": "site", "kind": "categorical", "n": 300, "cramers_v": 0.9, "auroc": None,
                     "q": 0.001},
                    {"column": "age", "kind": "missing", "n": 300, "cramers_v": 0.1, "auroc": 0.5, "q": 0.4}],
        "classifier": [{"split": "test", "n": 90, "balanced_accuracy": 0.5, "auroc": 0.51, "majority": 0.6}],
    },
}  # fmt: skip


def test_a_run_that_searched_for_nothing_says_nothing():
    told = summarize_search({}, {})
    assert not told["searched"]
    assert told["columns"] == told["proposals"] == told["dropped"] == []


def test_every_proposal_has_an_outcome():
    told = summarize_search(RUN, {"discovered 1": "Shortcut"})
    assert [row["outcome"] for row in told["proposals"]] == [
        "Shortcut", "names the same samples as <site>, which is tested",
    ]  # fmt: skip
    assert told["proposals"][0]["shares"] == "5 % of class 0, 94 % of class 1".replace(" %", told_percent())
    assert len(told["dropped"]) == MAX_DROPPED
    assert "5 weaker candidates" in told["dropped_note"]
    assert told["columns"][1]["kind"] == "whether it is missing"


def told_percent() -> str:
    """How the reports write a per cent sign."""
    from shortcutscope.report.wording import percent

    return percent(0.05).removeprefix("5")


def test_the_page_has_the_tab_and_escapes_names(run_dir, change_json):
    assert "panel-search" not in render(run_dir)
    change_json(run_dir / "run.json", lambda run: run.update(json.loads(json.dumps(RUN))))
    page = render(run_dir)
    for part in ("panel-search", 'data-test="proposals"', 'data-test="dropped"', 'data-test="metadata"'):
        assert part in page
    assert "&lt;site&gt;" in page
    assert "nothing was looked for in relevances" in page
