"""What was seen on the pixels changes the verdict of the layers where it is the plainer evidence."""

import pytest

from shortcutscope.audit.pixel_results import pixel_file, with_pixels
from shortcutscope.files import write_json

COUNTS = {"known": 40, "carriers": 20}


def finding(name, verdict, associated=True):
    return {
        "name": name,
        "verdict": verdict,
        "reason": "because",
        "n_samples": COUNTS,
        "association": {"value": associated},
    }


def keep(run, name, word):
    summary = {"word": word, "reason": "it moves the output", "directions": {}}
    write_json(pixel_file(run, name), {"concept": name, "counts": COUNTS, "summary": summary})


@pytest.mark.parametrize(
    ("verdict", "word", "associated", "said"),
    [
        ("encoded and used, a picture property", "confirmed", True, "used on the pixels, a picture property"),
        ("encoded and used, a picture property", "supported", True, "encoded and used, a picture property"),
        ("encoded, not used", "confirmed", True, "used on the pixels"),
        ("encoded, not used", "confirmed", False, "encoded, not used"),
        ("encoded, not used", "not confirmed", True, "encoded, not used"),
        ("shortcut", "confirmed", True, "shortcut"),
        ("shortcut", "not confirmed", True, "shortcut"),
        ("encoded and used, may be the label", "confirmed", True, "encoded and used, may be the label"),
    ],
)
def test_the_verdict_follows_what_was_confirmed(tmp_path, verdict, word, associated, said):
    keep(tmp_path, "grey", word)
    (one,) = with_pixels(tmp_path, [finding("grey", verdict, associated)])
    assert (one["verdict"], one["pixels"]["word"]) == (said, word)
    assert one["pixels"]["by_layers"] == {"verdict": verdict, "reason": "because"}
    assert with_pixels(tmp_path, [one]) == [one]  # what is said does not change when it is said again


def test_another_test_takes_the_word_back_and_rank_follows_the_verdict(tmp_path):
    keep(tmp_path, "grey", "confirmed")
    findings = [finding("tag", "encoded and used, no cost measured"), finding("grey", "encoded, not used")]
    first = with_pixels(tmp_path, findings)
    assert [f["name"] for f in first] == ["grey", "tag"]
    keep(tmp_path, "grey", "not confirmed")
    again = with_pixels(tmp_path, first)
    assert [(f["name"], f["verdict"]) for f in again] == [
        ("tag", "encoded and used, no cost measured"),
        ("grey", "encoded, not used"),
    ]
    assert again[1]["reason"] == "because"
