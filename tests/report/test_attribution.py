"""The report says which attribution its relevances are, and prominently why it is not the one asked for."""

import json

import pytest

from shortcutscope.report.attribution import label, summarize_attribution
from shortcutscope.report.html import render

CHECKS = {
    "method": "lrp:epsilon_plus", "forward_error": 0.0, "finite": True, "conservation": 254.0,
    "absorbed_by_biases": 0.012, "absorbed_by_rules": -2e-7, "remainder": -253.01, "operations": [],
    "passed": False, "reasons": ["relevance of 253 times the score went past the rules"],
}  # fmt: skip
FALLBACK = {
    "requested": "lrp", "used": "gradient", "reason": "the check of lrp:epsilon_plus failed (went past)",
    "checks": CHECKS,
}  # fmt: skip
HELD = {
    "requested": "lrp", "used": "lrp:epsilon_plus", "reason": None,
    "checks": {**CHECKS, "conservation": 0.98, "remainder": 0.0, "passed": True, "reasons": []},
}  # fmt: skip


def test_a_run_that_says_nothing_was_made_with_the_gradient():
    told = summarize_attribution({})
    assert (told["label"], told["fell_back"], told["figures"]) == ("gradient × activation", False, [])


@pytest.mark.parametrize(
    ("name", "words"),
    [("gradient", "gradient × activation"), ("lrp", "LRP"), ("lrp:epsilon_gamma", "LRP, epsilon_gamma")],
)
def test_names_in_words(name, words):
    assert label(name) == words


def test_figures_are_numbers_with_what_they_should_be():
    told = summarize_attribution({"attribution": FALLBACK})
    values = {row["key"]: row["value"] for row in told["figures"]}
    assert values == {
        "forward_error": "0.000", "conservation": "254.000", "absorbed_by_biases": "0.012",
        "absorbed_by_rules": "−2.0e−07", "remainder": "−253.010",
        "reason": "relevance of 253 times the score went past the rules",
    }  # fmt: skip
    assert told["fell_back"]
    kept = {"module": "stem.0", "operation": "conv2d", "absorbed": 0.5}
    rows = [{**kept, "kind": kind} for kind in ("bias", "no rule", "rule", "rule")]
    checks = {**CHECKS, "operations": [*rows, {**kept, "module": "", "kind": "bias"}]}
    shown = summarize_attribution({"attribution": {**HELD, "checks": checks}})["figures"]
    operations = [(row["label"], row["value"], row["hint"]) for row in shown if row["key"] == "operation"]
    assert operations == [
        ("conv2d in stem.0", "0.500", hint)
        for hint in ("kept by its bias", "has no rule", "kept by its rule")
    ]
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_what_could_not_be_computed_is_left_out_and_nan_is_named():
    checks = {**CHECKS, "conservation": None, "remainder": None, "finite": False}
    keys = [
        row["key"]
        for row in summarize_attribution({"attribution": {**FALLBACK, "checks": checks}})["figures"]
    ]
    assert "conservation" not in keys
    assert "finite" in keys
    refused = {**checks, "forward_error": None, "operations": []}
    told = summarize_attribution({"attribution": {**FALLBACK, "checks": refused}})["figures"]
    assert "finite" not in [row["key"] for row in told], "nothing was measured, so nothing was NaN"
    without = summarize_attribution({"attribution": {**FALLBACK, "checks": None}})
    assert (without["fell_back"], without["figures"]) == (True, [])


def test_a_fallback_is_told_before_the_verdicts(run_dir, change_json):
    warning = "the relevances are gradient x activation, although attribution='lrp' was asked for"
    change_json(run_dir / "run.json", lambda run: run.update(attribution=FALLBACK, warnings=[warning]))
    page = render(run_dir)
    top = page[: page.index('data-test="verdicts"')]
    assert "although attribution=" in top
    assert 'data-test="fallback-figures"' in top
    assert "254.000" in top
    assert "Relevance (gradient × activation)" in page
    assert 'data-test="fallback"' in page


def test_lrp_is_named_where_its_relevances_are_shown(run_dir, change_json):
    why = "the scan's relevances are LRP (epsilon_plus), whose backward pass gives no gradient"
    change_json(
        run_dir / "run.json",
        lambda run: run.update(
            attribution=HELD, not_measured={"derivative": why, "derivative_p": why}, warnings=[]
        ),
    )
    page = render(run_dir)
    assert 'data-test="fallback-figures"' not in page
    assert 'data-test="check-figures"' in page
    assert "Relevance (LRP, epsilon_plus)" in page
    assert page.count("derivative, derivative_p: not measured, since the scan") == 1
    assert "Gradient × activation" not in page
