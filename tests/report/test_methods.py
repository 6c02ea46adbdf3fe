"""The text for a methods section has the figures of the run, and nothing that the run does not hold."""

from __future__ import annotations

import json
import re

import pytest
import small_study

import shortcutscope as ss
from shortcutscope.report.html import render
from shortcutscope.report.methods import methods_of


@pytest.fixture(scope="module")
def audit(tmp_path_factory):
    return small_study.audit(tmp_path_factory.mktemp("methods") / "run", record=ss.Recording(name="Net 3"))


def test_it_has_the_figures_of_the_run(audit):
    text = audit.methods()
    for words in (
        "The classifier Net 3 (TagReader, 32 parameters) was audited",
        "The audit used 120 images.",
        "Of 2 layers (blocks.0.2 to blocks.1.1)",
        "Normalize(mean=(0.3,), std=(0.25,), size=None)",
        "3 concepts were examined: tag, twin and coin.",
        "1 could not be tested on these samples.",
        "50 permutations",
        "20 resamples of the samples",
        "the random seed was 0",
        "an absolute effect above 0.2",
        "phi in the training samples",
        f"PyTorch {audit.run['environment']['torch']}",
        audit.run["model"]["fingerprint"][:12],
    ):
        assert words in text, words


def test_every_reference_is_cited_once_in_the_order_of_the_text(audit):
    text, listed = audit.methods().split("References")
    cited = [int(n) for group in re.findall(r"\[([\d, ]+)\]", text) for n in group.split(",")]
    assert cited == list(range(1, len(cited) + 1))
    assert [int(n) for n in re.findall(r"^(\d+)\. ", listed, flags=re.MULTILINE)] == cited


def test_sentences_are_complete(audit):
    for paragraph in audit.methods().split("\n\n")[:-2]:
        assert paragraph.endswith(".")
        assert "None " not in paragraph
        assert "  " not in paragraph


def test_what_an_earlier_run_does_not_hold_is_left_out(finished_run):
    text = ss.Audit.open(finished_run).methods()
    assert "1\u202f200 images of 804 patients, labelled normal and pneumonia" in text
    assert "1 image could not be read and was left out." in text
    assert "AUROC of 0.962" in text
    assert "References" not in text
    assert str(methods_of({}, [], "model")).startswith("The classifier model was audited")


def test_signals_and_several_outputs_are_called_what_they_are(audit):
    run = json.loads((audit.path / "run.json").read_text())
    run["identity"]["image_shape"] = [12, 5000]
    run["outputs"] = [{"name": f"finding {k}"} for k in range(14)]
    run["attribution"]["used"] = "lrp"
    run["data"] |= {"n_groups": 90, "transform": "None"}
    text = str(methods_of(run, [], "ECG net"))
    assert "120 signals of 90 patients" in text
    assert "Each of the 14 outputs (finding 0, finding 1" in text
    assert "resamples of patients" in text
    assert "preprocessed" not in text
    assert "Bach S" in text


def test_the_report_has_it_to_copy(audit):
    page = render(audit.path)
    [block] = re.findall(r'data-test="methods">(.*?)</div>', page, flags=re.DOTALL)
    assert block.startswith("The classifier Net 3")
    assert "data-ss-copy" in page.split('data-test="methods"')[0].rpartition("<div")[2]
