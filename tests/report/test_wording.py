"""What the report says must follow from what was measured."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortcutscope.cli.tables import STYLES
from shortcutscope.probes.verdict import CONCERN
from shortcutscope.report import run_files, wording


@pytest.mark.parametrize("module", [wording, run_files])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def shortcut(robust, aligned, interval=None):
    return {
        "name": "ruler",
        "verdict": "shortcut",
        "effect": {
            "robust_auroc": {"value": robust},
            "aligned_auroc": {"value": aligned},
            "auroc_gap": {"value": None, "interval": interval},
        },
    }


def test_a_shortcut_that_costs_says_how_much():
    text = wording.sentence(shortcut(0.71, 0.98, [0.2, 0.3]))
    assert text == (
        "The model leans on ruler: AUROC is 0.98 where it agrees with the label and 0.71 where it disagrees."
    )


def test_a_cost_that_may_be_chance_is_called_so():
    assert "may be chance" in wording.sentence(shortcut(0.90, 0.93, [-0.02, 0.08]))


def test_a_shortcut_without_cost_is_not_said_to_cost():
    text = wording.sentence(shortcut(0.98, 0.97))
    assert "costs nothing measurable" in text


def test_use_below_and_above_the_threshold_read_differently():
    finding = {
        "name": "sex",
        "verdict": "encoded, not used",
        "encoded": {"auroc": 0.8},
        "used": {"effect": 0.06, "threshold": 0.2},
    }
    assert "below the threshold of 0.20" in wording.sentence(finding)
    finding["used"] = {"effect": -0.31, "threshold": 0.2}
    text = wording.sentence(finding)
    assert "0.31 standard deviations" in text
    assert "cannot be told from no effect" in text


@pytest.mark.parametrize("verdict", [*wording.VERDICTS, "a verdict of a later version"])
def test_every_verdict_has_a_sentence_without_any_measurement(verdict):
    text = wording.sentence({"name": "ruler", "verdict": verdict})
    assert text.endswith(".")
    assert "None" not in text
    assert "nan" not in text


def test_the_reason_of_an_untestable_concept_is_given():
    text = wording.sentence({"name": "x", "verdict": "not testable", "reason": "too few carriers: 3"})
    assert text == "Not tested: too few carriers: 3."


def findings(*verdicts):
    return [{"name": f"c{i}", "verdict": verdict} for i, verdict in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        ((), "No concept could be tested on these data."),
        (("not testable",), "No concept could be tested on these data."),
        (("not encoded",), "The tested concept is no shortcut of this model."),
        (("shortcut",), "The only tested concept is a shortcut: c0."),
        (("shortcut", "not encoded"), "1 of 2 tested concepts is a shortcut: c0."),
        (
            ("shortcut", "shortcut", "not testable"),
            "2 of 2 tested concepts are shortcuts: c0 and c1. 1 more could not be tested.",
        ),
        (("not encoded", "encoded, not used"), "None of the 2 tested concepts is a shortcut of this model."),
    ],
)
def test_headline(verdicts, text):
    assert wording.headline(findings(*verdicts)) == text


def test_where_prefers_use_to_encoding():
    finding = {
        "verdict": "shortcut",
        "layers": {"late": 0.7, "early": 0.3},
        "encoded": {"layer": "early"},
    }
    depths = {"early": 0.1, "late": 0.9}
    assert wording.where(finding, depths) == "acts most at late, late in the network"
    assert wording.where({**finding, "layers": {}}, depths) == "best read at early, early in the network"
    assert wording.where({**finding, "layers": {}, "verdict": "not encoded"}, depths) == ""


def test_cost_is_the_gap_and_falls_back_on_its_parts():
    effect = {"auroc_gap": {"value": 0.272, "interval": [0.231, 0.313]}}
    assert wording.cost(effect) == {"points": pytest.approx(27.2), "text": "27", "interval_text": "23 to 31"}
    parts = {"robust_auroc": {"value": 0.5}, "aligned_auroc": {"value": 0.75}, "auroc_gap": {"value": None}}
    assert wording.cost(parts)["text"] == "25"
    assert wording.cost({"auroc_gap": {"value": None}}) is None


@given(st.floats(-1e6, 1e6))
def test_decimals_keep_their_value_and_never_say_minus_zero(value):
    text = wording.decimal(value)
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.00501)
    assert text != "−0.00"


@given(st.floats(0, 1))
def test_p_is_never_zero(p):
    text = wording.p_value(p)
    assert text.startswith("<") or float(text) > 0


def test_every_verdict_has_its_words_everywhere():
    assert set(wording.VERDICTS) == set(CONCERN) == set(STYLES)
    for verdict in CONCERN:
        assert wording.sentence({"name": "tag", "verdict": verdict})


def test_what_was_seen_on_the_pixels_is_said_beyond_the_card():
    seen = {"word": "confirmed", "directions": {"without": {"flips": 0.51, "null_flips": 0.06}}}
    tag = {"name": "tag", "verdict": "shortcut", "pixels": seen}
    assert wording.verdict_label(tag) == ("shortcut", "Shortcut, confirmed on the pixels")
    assert "tag (confirmed on the pixels)" in wording.headline([tag])
    grey = {"name": "grey", "verdict": "used on the pixels, a picture property", "pixels": seen}
    assert wording.headline([grey]).startswith("The model uses grey, confirmed on the pixels")
    assert "51\u00a0% of its predictions flip (6\u00a0% in the null)" in wording.sentence(grey)


def test_s5_labels_to_check_come_before_the_word_shortcut():
    suspect = {
        "name": "d",
        "verdict": "encoded and used, may be the label",
        "samples": {"doubtful_label": ["a"]},
    }
    assert wording.headline([suspect]).startswith("Check the labels that go against d first")
    assert wording.sentence(suspect).startswith("Check the labels of the 1 sample that go against it first")
