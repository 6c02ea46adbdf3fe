"""Audits of a network that reads a tag, with columns that occur with it."""

import json

import numpy as np
import pytest
from small_study import pictures, tag_reader

import shortcutscope as ss
from shortcutscope.report.summary import summarize

OPTIONS = {"statistics": ss.Statistics(50, 40), "running": ss.Running(progress=False)}
N = 400


def tied(values, agree, seed):
    agrees = np.random.default_rng(seed).random(len(values)) < agree
    return np.where(agrees, values, 1 - values)


def table(**columns):
    """Pictures with a tag that goes with the label, and columns beside it."""
    images, frame = pictures(N, seed=3, agree=0.75)
    data = ss.ImageTable.from_arrays(images / 255, frame.drop(columns="image"), value_range=(0, 1))
    return data.with_columns(**columns)


def tag():
    return pictures(N, seed=3, agree=0.75)[1]["tag"].to_numpy()


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    room, half = tied(tag(), 0.8, 1), tied(tag(), 0.65, 2).astype(float)
    half[: N * 2 // 3] = np.nan
    levels = np.where(tied(tag(), 0.9, 4) == 1, "tagged", np.where(np.arange(N) % 3 == 0, "b", "c"))
    data = table(room=room, rarely=half, level=levels)
    out = tmp_path_factory.mktemp("beside") / "run"
    return ss.audit(tag_reader(), data, out, concepts=["tag", "room", "rarely", "level", "coin"], **OPTIONS)


def test_the_cause_is_kept_and_the_bystander_is_explained(audited):
    cause, bystander = audited["tag"], audited["room"]
    assert (cause.verdict, cause.beside["statement"]) == ("shortcut", "beyond")
    assert bystander.verdict == "explained by another concept"
    assert (bystander.beside["statement"], bystander.beside["with"]) == ("explained by", ["tag"])
    assert bystander.used["value"]  # alone
    assert abs(bystander.beside["effect"]) < 0.1
    assert "explained by tag" in bystander.reason
    costs = {f.name: (f.effect["auroc_gap"]["value"], f.beside["cost"]["value"]) for f in (cause, bystander)}
    assert min(*costs["tag"], costs["room"][0]) > 0.3
    assert abs(costs["room"][1]) < 0.15
    assert "tag" in [f.name for f in audited.shortcuts]
    assert audited.findings[0].name == "tag"
    assert audited.conclusion.exit_code == 2


def test_values_of_one_column_are_not_held_fixed_against_each_other(audited):
    level = audited["level=tagged"]
    assert not any(name.startswith("level") for name in level.beside["held_fixed"])
    assert level.verdict == "explained by another concept"


def test_what_is_known_of_few_samples_is_named(audited):
    assert audited["tag"].beside["not_held_fixed"] == ["rarely"]
    assert any("rarely" in note for note in audited["tag"].notes)
    assert "tag" in audited["rarely"].beside["held_fixed"]


def test_it_is_written_and_read_and_shown(audited):
    findings = {f["name"]: f for f in json.loads((audited.path / "findings.json").read_text())}
    assert findings["room"]["beside"]["statement"] == "explained by"
    assert findings["coin"]["beside"] == {}
    assert ss.Audit.open(audited.path)["room"].beside == audited["room"].beside
    assert audited.to_frame().set_index("finding").loc["room", "beside"].startswith("explained by tag")
    shown = {f["name"]: f for f in summarize(audited.path)["findings"]}
    assert "what it depends on is tag, which goes with it" in shown["room"]["sentence"]
    asked = {name: [c["value"] for c in f["checks"]][3:] for name, f in shown.items()}
    assert (asked["tag"], asked["room"], asked["coin"]) == ([True], [False], [])


def test_concepts_of_which_few_samples_differ_are_accused_together(tmp_path):
    twin = tag().copy()
    twin[:6] = 1 - twin[:6]
    done = ss.audit(tag_reader(), table(twin=twin), tmp_path / "run", concepts=["tag", "twin"], **OPTIONS)
    assert {f.verdict for f in done.findings} == {"shortcut"}
    said = done["twin"]
    assert said.beside["statement"] == "cannot be told apart from"
    assert (said.beside["n_differ"], said.beside["needed"]) == (6, 34)
    assert "cannot be told apart from tag: 6 samples differ, about 34 more are needed" in said.reason
    assert any("together" in note for note in said.notes)


def test_a_picture_property_is_called_no_shortcut_and_explains_nothing(tmp_path):
    data = table(brightness=tag())
    ids = data.frame["sample_id"].to_numpy()
    spoiled = tied(tag(), 0.97, 5).astype(float)
    property_ = ss.Concept("brightness", spoiled, "picture", ids)
    room = ss.Concept("room", tied(tag(), 0.8, 1).astype(float), "metadata", ids)
    done = ss.audit(tag_reader(), data, tmp_path / "run", concepts=[property_, room], **OPTIONS)
    found = done["brightness"]
    assert found.verdict == "encoded and used, a picture property"
    assert "acquisition or disease cannot be told from these data" in found.reason
    assert done["room"].beside == {}
    assert done["room"].verdict == "shortcut"
    alone = ss.audit(tag_reader(), data, tmp_path / "alone", concepts=[property_], **OPTIONS)
    assert alone.conclusion.exit_code == 3
    assert "the output responds to brightness" in alone.undecided[0]


def test_a_concept_that_the_label_should_say_is_noted_with_the_samples_to_read(tmp_path):
    images, frame = pictures(N, seed=3, agree=0.5)
    truth, wrong = frame["tag"].to_numpy(), np.random.default_rng(0).random(N) < 0.1
    frame = frame.drop(columns="image").assign(label=np.where(wrong, 1 - truth, truth))
    data = ss.ImageTable.from_arrays(images / 255, frame, value_range=(0, 1))
    found = ss.audit(tag_reader(), data, tmp_path / "run", concepts=["tag"], **OPTIONS)["tag"]
    named = set(found.samples["doubtful_label"])
    assert len(named) >= 0.5 * wrong.sum()
    assert named <= set(frame["sample_id"][wrong])
    assert any("Read the labels of these" in note for note in found.notes)
