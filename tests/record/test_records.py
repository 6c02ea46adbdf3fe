"""Records are read back by their own readers, with the figures of ``findings.json``; changes are found."""

from __future__ import annotations

import json
import random

import pandas as pd
import pytest
import small_study
from command_line import run

import shortcutscope as ss
from shortcutscope.audit.seal import FILE, changed_files, seal
from shortcutscope.disk import checksum
from shortcutscope.errors import InputError
from shortcutscope.record import content
from shortcutscope.record.content import EFFECTS
from shortcutscope.record.fda import COLUMNS

EVIL = 'a | b <script>"\x00&\n# x'


@pytest.fixture(scope="module")
def audit(finished_run):
    return ss.Audit.open(finished_run)


def stored(finished_run):
    """Every figure of ``findings.json`` by concept and name."""
    findings = json.loads((finished_run / "findings.json").read_text())
    return {
        (f["name"], name): (f["effect"][name]["value"], *f["effect"][name]["interval"])
        for f in findings
        for name in EFFECTS
        if name in f["effect"]
    }


def test_junit(audit, finished_run, tmp_path):
    junitparser = pytest.importorskip("junitparser")
    audit.record("junit", tmp_path / "shortcuts.xml")
    [suite] = list(junitparser.JUnitXml.fromfile(str(tmp_path / "shortcuts.xml")))
    results = {case.name: [type(r).__name__ for r in case.result] for case in suite}
    own = {f.name: results[f.name] for f in audit}
    assert own == {
        "tag": ["Failure"], "scanner noise": ["Failure"], "sex": [], "room": [], "operator": ["Skipped"],
    }  # fmt: skip
    assert suite.failures == 2
    read = {
        (case.name, entry.get("name")): float(entry.get("value"))
        for case in suite
        for entry in case._elem.iter("property")
        if entry.get("name") in EFFECTS
    }
    assert read == {key: value[0] for key, value in stored(finished_run).items()}


def test_cyclonedx(audit, finished_run):
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    text = audit.record("cyclonedx")
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    card = json.loads(text)["components"][0]["modelCard"]
    read = {
        (m.get("slice"), m["type"]): (
            float(m["value"]),
            *(float(m["confidenceInterval"][end]) for end in ("lowerBound", "upperBound")),
        )
        for m in card["quantitativeAnalysis"]["performanceMetrics"]
        if m["type"] in EFFECTS
    }
    assert read == stored(finished_run)
    assert len(card["considerations"]["ethicalConsiderations"]) == 2
    assert audit.record("cyclonedx") == text


def test_huggingface(audit, finished_run, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    audit.record("huggingface", tmp_path / "README.md")
    card = hub.ModelCard.load(tmp_path / "README.md", ignore_metadata_errors=False)
    read = {
        (r.dataset_config, r.metric_type): (r.metric_value, r.metric_args["low"], r.metric_args["high"])
        for r in card.data.eval_results
        if r.metric_type in EFFECTS
    }
    assert read == stored(finished_run)
    assert "## Shortcuts" in card.content


@pytest.mark.parametrize("name", ["modelcard", "markdown"])
def test_markdown(audit, name):
    text = audit.record(name)
    assert "tag" in text
    assert "operator" in text
    for finding in audit.shortcuts:
        if name == "modelcard":
            assert repr(finding.effect["robust_auroc"]["value"]) in text
        else:
            assert f"Misclassification where {finding.name} misleads" in text


@pytest.mark.parametrize("name", ["junit", "cyclonedx", "modelcard", "huggingface", "markdown"])
def test_other_peoples_names_are_text(run_dir, change_json, name):
    change_json(run_dir / "findings.json", lambda findings: findings[0].update(name=EVIL))
    text = ss.Audit.open(run_dir).record(name)
    if name == "junit":
        from xml.etree import ElementTree

        names = [case.get("name") for case in ElementTree.fromstring(text).iter("testcase")]
        assert any(name.startswith('a | b <script>"') for name in names)
    elif name == "cyclonedx":
        assert any(m.get("slice") == EVIL for m in _metrics(text))
    else:
        body = text.rpartition("\n---\n")[2]
        assert "<script>" not in body.replace("\\<script\\>", "")
        assert "a \\| b" in body


def _metrics(text):
    return json.loads(text)["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]


def test_an_unknown_format_is_refused(audit):
    with pytest.raises(InputError, match="junit"):
        audit.record("word")


@pytest.fixture
def sealed(run_dir, monkeypatch):
    """A run with its checksums; what lies in its scan is looked at elsewhere."""
    monkeypatch.setattr("shortcutscope.audit.seal.Scan.open", lambda folder: None)
    seal(run_dir)
    return run_dir


def test_a_change_of_whatever_byte_is_found_100_times_of_100(sealed):
    draw = random.Random(0)
    names = [line.partition("  ")[2] for line in (sealed / FILE).read_text().splitlines()]
    assert {"run.json", "findings.json", "profile.parquet"} <= set(names)
    assert changed_files(sealed) == []
    for _ in range(100):
        path = sealed / draw.choice(names)
        content = path.read_bytes()
        place = draw.randrange(len(content))
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
        )
        found = changed_files(sealed)
        assert len(found) == 1
        assert found[0].startswith(path.relative_to(sealed).as_posix())
        path.write_bytes(content)


def test_what_is_gone_added_or_sealed_anew_is_found(sealed, capsys):
    digest = checksum(sealed / FILE)
    assert run(capsys, "verify", sealed, "--sha256", digest)[0] == 0
    (sealed / "contrast").mkdir(exist_ok=True)
    (sealed / "contrast" / "x.npz").write_bytes(b"x")
    assert changed_files(sealed) == ["contrast/x.npz was added: it is no part of the audit"]
    seal(sealed)
    assert changed_files(sealed) == []
    code, _, err = run(capsys, "verify", sealed, "--sha256", digest)
    assert code == 1
    assert "its digest is" in " ".join(err.split())
    (sealed / "profile.parquet").rename(sealed.parent / "elsewhere")
    assert any(text.startswith("profile.parquet is missing") for text in changed_files(sealed))


def test_a_run_of_an_earlier_version_says_so(run_dir):
    with pytest.raises(InputError, match="has no SHA256SUMS"):
        changed_files(run_dir)


def test_records_on_the_command_line(finished_run, tmp_path, capsys):
    files = ("--out", tmp_path / "a.xml", "--out", tmp_path / "a.md")
    code, _, err = run(capsys, "record", finished_run, "--format", "junit", "--format", "markdown", *files)
    assert code == 0, err
    assert (tmp_path / "a.xml").read_text().startswith("<testsuites>")
    assert run(capsys, "record", finished_run, "--format", "markdown")[1].startswith(
        "# Limitations and hazards"
    )
    assert run(capsys, "record", finished_run, "--format", "junit", *files)[0] == 1


def test_fda_has_the_subgroups_of_a_concept_as_wide_as_the_run_has_them(tmp_path):
    audit = small_study.audit(tmp_path / "run")
    audit.record("fda", tmp_path / "bias.csv")
    table = pd.read_csv(tmp_path / "bias.csv")
    assert list(table.columns) == list(COLUMNS)
    assert set(table["Subgroup"]) == {
        f"{name}={value}" for name in ("tag", "coin", "twin") for value in (0, 1)
    }
    groups = audit.subgroups().set_index("group")
    for row in table.to_dict("records"):
        own, metric = groups.loc[row["Subgroup"]], row["Metric"].lower()
        assert row["Mean"] == own[metric]
        assert 2 * 1.96 * row["Std"] / 5 == pytest.approx(own[f"{metric}_high"] - own[f"{metric}_low"])
    tag = table[table["Subgroup"] == "tag=1"].iloc[0]
    assert (tag["Positive-associated"], tag["Mitigation"]) == ("tag=1", "No Mitigation")
    assert tag["Prevalence Source"] == "training split"
    frame = small_study.pictures(60, seed=1, agree=0.95)[1]
    share = frame.groupby("tag")["label"].mean()
    assert tag["Training Prevalence Difference"] == pytest.approx(100 * (share[1] - share[0]))


def test_fda_of_a_run_without_subgroups_says_how_to_get_them(audit):
    with pytest.raises(InputError, match="same audit into the same folder"):
        audit.record("fda")


def test_subgroups_of_several_classes_say_which_class_is_told_from_the_rest(tmp_path, monkeypatch):
    audit = small_study.audit(tmp_path / "run")
    rows = audit.subgroups()
    both = pd.concat([rows, rows.assign(positive=1 - rows["positive"])], ignore_index=True)
    monkeypatch.setattr(type(audit), "subgroups", lambda self: both)
    parts = [figure.part for figure in content._figures(audit) if figure.part and "coin" in figure.part]
    assert {part.partition(": ")[0] for part in parts} == {"class 0", "class 1"}
    named = [(figure.name, figure.part) for figure in content._figures(audit)]
    assert len(set(named)) == len(named)
