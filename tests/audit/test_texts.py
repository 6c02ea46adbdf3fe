"""An audit names its findings by texts, says which model did, and refuses what it cannot do at once."""

import dataclasses
import json

import command_line
import image_text_model
import pytest
import small_study
import torch

import shortcutscope as ss

FEW = ss.Statistics(n_permutations=50, n_bootstrap=50)
TEXTS = ss.TextNaming(
    image_text_model.SeesBrightness(),
    image_text_model.tokenize,
    list(image_text_model.TEXTS),
    image_text_model.prepare,
)


def audited(table, out, **scanning):
    return ss.audit(
        small_study.tag_reader(),
        table,
        out,
        concepts=["tag", "coin"],
        scanning=ss.Scanning("all", measure=False, **scanning),
        statistics=FEW,
        running=ss.Running(batch_size=16, progress=False),
    )


def test_findings_records_and_report_say_the_text(tmp_path):
    small_study.write_files(tmp_path, 120)
    table = ss.ImageTable.from_csv(tmp_path / "images.csv", mode="L")
    plain = audited(table, tmp_path / "run")
    named = audited(table, tmp_path / "run", texts=TEXTS)  # nothing that was measured is measured again
    assert [f.verdict for f in named] == [f.verdict for f in plain]
    assert plain["tag"].looks == ""
    assert named["tag"].looks == "like “a tag in the corner”"
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["texts"]["texts"] == list(image_text_model.TEXTS)
    assert len(run["texts"]["model"]) == 64
    assert "nearest to <strong>“a tag in the corner”</strong>" in named.report().read_text()
    assert ss.Audit.open(tmp_path / "run")["tag"].looks == named["tag"].looks


def test_volumes_and_a_model_that_fails_are_refused_before_anything_is_written(tmp_path):
    small_study.write_files(tmp_path, 60)
    table = ss.ImageTable.from_csv(tmp_path / "images.csv", mode="L")
    broken = dataclasses.replace(TEXTS, processor=lambda _: "no tokens")
    with pytest.raises(ss.errors.ModelError, match="fails on a picture or on the texts"):
        audited(table, tmp_path / "run", texts=broken)
    volumes = ss.ImageTable.from_dataset(
        [torch.zeros(1, 4, 8, 8)] * 60, table.frame[["label", "tag", "coin"]]
    )
    with pytest.raises(ss.InputError, match="texts= names findings in pictures"):
        audited(volumes, tmp_path / "run", texts=TEXTS)
    assert not (tmp_path / "run").exists()


def test_the_command_line_takes_a_folder_of_transformers(tmp_path, capsys):
    path = small_study.write_files(tmp_path, 60)
    out = tmp_path / "run"
    given = ["audit", small_study.FACTORY, path, "--random-weights", "--mode", "L", "--concepts", "tag"]
    code, _, error = command_line.run(capsys, *given, "--texts", "hair,a ruler", "--out", out)
    assert code == 1
    assert "give its folder with --text-model" in error
    folder = image_text_model.save_clip(tmp_path / "clip")
    code, _, error = command_line.run(
        capsys, *given, "--text-model", folder, "--texts", "hair,a ruler", "--no-measure", "--out", out
    )
    assert code in (0, 2, 3), error
    text = json.loads((out / "findings.json").read_text())[0]["appearance"]["text"]
    assert {row["text"] for row in text["texts"]} <= {"hair", "a ruler"}
    assert text["names"] or text["why"]
    assert "text_model = " in (out / "audit.toml").read_text()
