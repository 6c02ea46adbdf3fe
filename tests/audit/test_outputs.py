"""An audit of several labels: one scan, and a run for each output that is as good as one of its own."""

import json

import numpy as np
import pandas as pd
import pytest
from several_labels import LABELS, labelled, trained

import shortcutscope as ss
from shortcutscope.errors import InputError
from shortcutscope.report.outputs import summarize_outputs

QUICK = {"statistics": ss.Statistics(50, 60), "running": ss.Running(progress=False)}
CONCEPTS = ["tag", "coin"]


@pytest.fixture(scope="module")
def study():
    train, held_out = labelled(800, 0.95, 0), labelled(300, 0.5, 1)
    return trained(train), train, held_out


@pytest.fixture(scope="module")
def audited(study, tmp_path_factory):
    network, train, held_out = study
    out = tmp_path_factory.mktemp("several") / "run"
    return ss.audit(network, held_out, out, concepts=CONCEPTS, train=train, **QUICK)


def test_shortcuts_are_named_with_their_outputs(audited):
    named = {(f.output, f.name) for f in audited.shortcuts}
    assert ("Edema", "tag") in named
    assert ("Pleural Effusion", "Mass") in named, "the label of another output, off the target"
    assert not any(name == "coin" for _, name in named)
    assert "another output" in audited["Pleural Effusion"]["Mass"].reason
    assert audited.conclusion.exit_code == 2
    assert audited.attribution.used == "none"


def test_an_output_is_a_run_of_its_own(audited):
    assert list(audited.outputs) == list(LABELS)
    one = audited["pleural effusion"]
    assert one.path == audited.path / "outputs" / "Pleural-Effusion"
    assert {f.name for f in one.findings} == {"tag", "coin", "Edema", "Mass"}
    assert {f.output for f in one.findings} == {"Pleural Effusion"}
    assert len(one.scan) == 300
    assert one.scan.logits.shape == (300, 1)
    assert not (one.path / "scan" / "manifest.json").exists()
    np.testing.assert_array_equal(one.scan.logits[:, 0], audited.scan.logits[:, 1])
    assert one["tag"].concept.known.all()


def test_what_all_outputs_say_is_in_the_run(audited):
    findings = json.loads((audited.path / "findings.json").read_text())
    assert {(f["output"], f["name"]) for f in findings} == {(f.output, f.name) for f in audited.findings}
    assert len(findings) == 3 * (2 + 2)
    profile = pd.read_parquet(audited.path / "profile.parquet")
    assert set(profile["output"]) == set(LABELS)
    assert set(audited.to_frame()["output"]) == set(LABELS)
    entries = json.loads((audited.path / "run.json").read_text())["outputs"]
    assert [(e["name"], e["output"], e["known"]) for e in entries] == [
        (name, k, 300) for k, name in enumerate(LABELS)
    ]


def test_an_output_says_what_an_audit_of_it_alone_says(study, audited, tmp_path):
    network, train, held_out = study
    table, reference = held_out.for_label("Edema"), train.for_label("Edema")
    others = [name for name in LABELS if name != "Edema"]
    head = ss.Head(label=0, task="multilabel")
    alone = ss.audit(
        network, table, tmp_path / "run", concepts=[*CONCEPTS, *others], train=reference, head=head, **QUICK
    )
    for one in alone.findings:
        other = audited["Edema"][one.name]
        assert one.verdict == other.verdict
        assert one.association["phi"] == pytest.approx(other.association["phi"], abs=1e-12)
        assert one.used["effect"] == pytest.approx(other.used["effect"], abs=1e-4)
        assert one.used["interval"] == pytest.approx(other.used["interval"], abs=1e-4)
        gaps = [f.effect["auroc_gap"]["value"] for f in (one, other)]
        assert gaps[0] == pytest.approx(gaps[1], abs=1e-9)
    assert alone["tag"].encoded["auroc"] == pytest.approx(audited["Edema"]["tag"].encoded["auroc"], abs=1e-9)
    assert alone["tag"].extent_statistic == audited["Edema"]["tag"].extent_statistic
    # Elsewhere it is the same measurement, and the derivative is that of no other logit.
    rows = audited.profile[audited.profile["concept"] == "tag"]
    assert rows.groupby("layer")["auroc"].nunique().eq(1).all()


def test_unknown_labels_are_left_out_of_their_output_alone(study, tmp_path):
    network, train, _ = study
    table = labelled(120, 0.5, 3, unknown=0.2)
    audit = ss.audit(network, table, tmp_path / "run", concepts=["tag"], train=train, **QUICK)
    known = np.isfinite(table.label_values).sum(0)
    assert [len(one.scan) for one in audit.outputs.values()] == known.tolist()
    edema = audit["Edema"]
    rows = np.flatnonzero(np.isfinite(table.label_values[:, 0]))
    assert edema.scan.samples["label"].tolist() == table.label_values[rows, 0].astype(int).tolist()
    np.testing.assert_array_equal(edema.scan.logits[:, 0], audit.scan.logits[rows, 0])
    layer = audit.scan.layers[-1]
    np.testing.assert_array_equal(edema.scan.activation(layer), audit.scan.activation(layer)[rows])
    np.testing.assert_array_equal(
        edema.scan.feature_rows(layer).read(3, 40), audit.scan.features(layer)[rows][3:40]
    )
    # A concept is unknown where the label that it is was not known.
    values = edema["Mass"].concept.values
    assert np.isnan(values).sum() == np.isnan(table.label_values[rows, 2]).sum()
    assert any("Edema" in text for text in edema.run["assumptions"])


@pytest.fixture(scope="module")
def searched(study, tmp_path_factory):
    network = study[0]
    out = tmp_path_factory.mktemp("searched") / "run"
    return ss.audit(network, labelled(400, 0.9, 5), out, concepts=["coin"], discover=True, **QUICK)


def test_what_nobody_named_is_found_at_its_output(study, searched):
    tag = searched["Edema"]["discovered 2"]
    assert (tag.verdict, tag.output, tag.origin) == ("shortcut", "Edema", "discovered")
    truth = labelled(400, 0.9, 5).frame.set_index("sample_id")["tag"]
    known = tag.concept.known
    ids = tag.concept.sample_ids[known]
    assert np.mean(tag.concept.values[known] == truth[ids]) > 0.95
    search = searched.run["discovery"]
    outputs = {p["name"]: p["outputs"] for p in search["proposals"]}["discovered 2"]
    assert outputs[0] == "Edema"
    assert {f.output for f in searched.shortcuts if f.name == "discovered 2"} == {"Edema"}
    # What shows another output's label is left to that label.
    assert "Mass" in searched["Pleural Effusion"].run["discovery"]["same"]["discovered 1"]
    assert "discovered 1" not in {f.name for f in searched.findings}
    assert search["looked_at"] == sum(one.run["discovery"]["looked_at"] for one in searched.outputs.values())
    page = summarize_outputs(searched.path)
    outcomes = {row["name"]: row["outcome"] for row in page["search"]["proposals"]}
    assert "Edema: Shortcut" in outcomes["discovered 2"]
    (row,) = [row for row in page["concepts"] if row["name"] == "discovered 2"]
    assert [cell is not None for cell in row["cells"]] == [name in outputs for name in LABELS]


@pytest.mark.slow
def test_a_search_is_kept(study, searched, monkeypatch):
    before = (searched.path / "findings.json").read_text()
    monkeypatch.setattr("shortcutscope.audit.outputs_discovery.discover_outputs", None)
    table = labelled(400, 0.9, 5)
    ss.audit(study[0], table, searched.path, concepts=["coin"], discover=True, **QUICK)
    assert (searched.path / "findings.json").read_text() == before


@pytest.mark.slow
def test_a_proposal_is_left_to_the_column_that_names_its_samples(study, searched, tmp_path):
    audit = ss.audit(
        study[0], labelled(400, 0.9, 5), tmp_path / "run", concepts=["tag"], discover=True, **QUICK
    )
    assert "tag" in audit.run["discovery"]["same"]["discovered 2"]
    assert "tag" in audit["Edema"].run["discovery"]["same"]["discovered 2"]
    assert "discovered 2" not in {f.name for f in audit.findings}


def test_it_goes_on_and_is_refused_for_other_inputs(study, audited):
    network, train, held_out = study
    before = (audited.path / "findings.json").read_text()
    again = ss.audit(network, held_out, audited.path, concepts=CONCEPTS, train=train, **QUICK)
    assert (again.path / "findings.json").read_text() == before
    labels = held_out.label_values
    labels[0, 0] = np.nan
    other = held_out.with_columns(Edema=labels[:, 0])
    with pytest.raises(ss.InputError, match="data"):
        ss.audit(network, other, audited.path, concepts=CONCEPTS, train=train, **QUICK)


def test_a_label_without_both_kinds_is_not_audited_and_leaves_that_open(study, tmp_path):
    network, _, held_out = study
    table = held_out.with_columns(Mass=np.zeros(300)).take(range(120))
    audit = ss.audit(network, table, tmp_path / "run", concepts=["coin"], **QUICK)
    assert list(audit.outputs) == ["Edema", "Pleural Effusion"]
    assert "0 in all" in audit.not_audited["Mass"]
    assert any("Mass was not audited" in text for text in audit.undecided)
    with pytest.raises(InputError, match="not audited"):
        audit["Mass"]
    assert audit["Edema"]["Mass"].verdict == "not testable"


@pytest.mark.slow
def test_relevance_of_every_output_is_its_own(study, tmp_path):
    network, train, held_out = study
    scanning = ss.Scanning(target="every", layers="blocks")
    audit = ss.audit(
        network, held_out, tmp_path / "run", concepts=["tag"], train=train, scanning=scanning, **QUICK
    )
    one, layer = audit["Mass"], audit.scan.layers[-1]
    np.testing.assert_array_equal(one.scan.relevance(layer), audit.scan.relevance(layer, target=2))
    np.testing.assert_array_equal(one.scan.gradient_rows(layer).read(0, 9), one.scan.gradient(layer)[:9])
    assert one.profile["derivative"].notna().any()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"head": ss.Head(label=1)}, "label-output"),
        ({"head": ss.Head(labels={"Fracture": 1})}, "no label 'Fracture'"),
        ({"head": ss.Head(names=("a", "b", "c"))}, "no output bears the name of 3"),
        ({"head": ss.Head(labels={"Edema": 0, "Mass": 0})}, "tied to one output"),
        ({"head": ss.Head(labels={"Edema": "efusion"})}, "names 0 of the model's outputs"),
        ({"head": ss.Head(task="multiclass")}, "exclude each other"),
        ({"statistics": ss.Statistics(positive=0)}, "leave it out"),
        ({"scanning": ss.Scanning(attribution="lrp")}, "every"),
        ({"concepts": ["Edem"]}, "Edem"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(study, tmp_path, changes, match):
    network, _, held_out = study
    with pytest.raises(InputError, match=match):
        ss.audit(network, held_out, tmp_path / "run", **{"concepts": ["coin"], **QUICK, **changes})
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_labels_are_tied_by_name_and_never_by_position(study, tmp_path):
    network, _, held_out = study
    order = ss.Head(names=("MASS", "edema", "Pleural-Effusion"))
    audit = ss.audit(network, held_out, tmp_path / "run", concepts=["coin"], head=order, **QUICK)
    assert {name: one.head.index for name, one in audit.outputs.items()} == {
        "Edema": 1,
        "Pleural Effusion": 2,
        "Mass": 0,
    }
    assert any("Edema with 1 (edema)" in text for text in audit.run["assumptions"])


def test_training_samples_without_the_labels_are_refused(study, tmp_path):
    network, train, held_out = study
    with pytest.raises(InputError, match="lack the labels"):
        ss.audit(
            network, held_out, tmp_path / "run", concepts=["tag"], train=train.for_label("Edema"), **QUICK
        )


def test_stages_of_one_label_say_how_to_choose_one(study, audited):
    held_out = study[2]
    with pytest.raises(InputError, match=r"audit\['Edema'\]"):
        audited.finding("tag")
    with pytest.raises(InputError, match="for_label"):
        held_out.require_one_label("the data")
    network, train, _ = study
    with pytest.raises(InputError, match="for_label"):
        ss.train_classifier(network, train)
    with pytest.raises(InputError, match="for_label"):
        ss.debias(network, train, recipe="erm", audit=audited["Edema"]["tag"])
    with pytest.raises(InputError, match=r"audit\['Edema'\]"):
        ss.debias(network, train, recipe="erm", audit=audited)
    with pytest.raises(InputError, match="of one"):
        ss.compare(audited, network, held_out, model=network)
    assert audited["Edema"]["tag"].retrieve(k=5, images=held_out)


def test_the_page_lays_out_concepts_by_outputs(audited):
    page = summarize_outputs(audited.path, audited.path)
    assert [row["name"] for row in page["concepts"][:2]] == ["tag", "coin"]
    assert [row["is_label"] for row in page["concepts"]] == [False, False, True, True, True]
    cells = {row["name"]: dict(zip(LABELS, row["cells"], strict=True)) for row in page["concepts"]}
    assert cells["Mass"]["Mass"] is None
    assert cells["tag"]["Edema"]["kind"] == "shortcut"
    assert cells["tag"]["Edema"]["cost"]["points"] > 0
    assert "off-target" in cells["Mass"]["Pleural Effusion"]["text"]
    assert page["outputs"][1]["link"] == "outputs/Pleural-Effusion/report.html"
    assert "outputs" in page["methods"]
    assert "off-target" in page["headline"]
