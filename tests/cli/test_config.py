"""Options from a file, quiet and as JSON; the file that a run writes starts the same audit again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import small_study
from command_line import run

from shortcutscope.cli.config import FILE, read_config, write_config
from shortcutscope.cli.examples import EXAMPLES, epilog
from shortcutscope.errors import InputError

OPTIONS = {"out": False, "concepts": False, "present": True, "value_range": False, "measure": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("config")
    small_study.write_files(made, 120, n_train=60)
    (made / "audit.toml").write_text(
        f'model = "{small_study.FACTORY}"\ndata = "images.csv"\nconcepts = ["tag"]\npermutations = 50\n'
        'bootstrap = 20\nmean = "0.3"\nstd = "0.25"\nmeasure = false\nname = "Chest net 3"\n'
    )
    return made


def test_a_file_says_what_was_not_typed(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, out, err = run(capsys, "audit", "--config", "audit.toml", "--out", "run", "--json")
    assert code in (0, 2, 3), err
    told = json.loads(out)
    assert told["exit_code"] == code
    assert [f["finding"] for f in told["findings"]] == ["tag"]
    stored = json.loads(Path("run/findings.json").read_text())[0]
    assert told["findings"][0]["use"] == stored["used"]["effect"]
    assert "Chest net 3</h1>" in Path("run/report.html").read_text()
    # What it writes leads to the same, from anywhere, and shows nothing.
    monkeypatch.chdir(os.sep)
    again = ("audit", "--config", folder / "run" / FILE, "--out", folder / "again", "--quiet")
    assert run(capsys, *again)[:2] == (code, "")
    assert json.loads((folder / "again" / "findings.json").read_text())[0]["used"] == stored["used"]


def test_what_is_no_option_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('concept = "tag"\n')
    with pytest.raises(InputError, match="'concept', which is no option; there are concepts"):
        read_config(tmp_path / "a.toml", OPTIONS)
    (tmp_path / "a.toml").write_text("concepts = tag\n")
    with pytest.raises(InputError, match="is no TOML"):
        read_config(tmp_path / "a.toml", OPTIONS)
    with pytest.raises(InputError, match=r"nothing\.toml"):
        read_config(tmp_path / "nothing.toml", OPTIONS)


def test_values_are_what_a_command_line_has(tmp_path):
    given = {"concepts": "a,b", "present": ["site=A"], "value_range": [0.0, 1.5], "measure": False}
    path = write_config(tmp_path, {**given, "dry_run": True, "out": tmp_path})
    assert read_config(path, OPTIONS) == given
    path.write_text('concepts = ["a", "b"]\n[present]\nsite = "A"\n')
    assert read_config(path, OPTIONS) == {"concepts": "a,b", "present": ["site=A"]}


def test_quiet_and_json_exclude_each_other(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, err = run(capsys, "audit", "--config", "audit.toml", "--out", "x", "--json", "-q")
    assert (code, "exclude each other" in err) == (1, True)


def test_every_help_has_an_example(capsys):
    from shortcutscope.cli import COMMANDS

    assert set(COMMANDS) <= set(EXAMPLES)
    code, out, _ = run(capsys, "retrieve", "--help")
    assert code == 0
    assert "shortcutscope retrieve runs/derm ruler" in " ".join(out.split())
    assert epilog("of another package") is None


def test_a_shell_completes_commands_options_and_words(capsys, monkeypatch):
    monkeypatch.setenv("_SHORTCUTSCOPE_COMPLETE", "complete_bash")
    for words, expected in (
        ("shortcutscope au", "audit"), ("shortcutscope audit --precision ", "bf16"),
        ("shortcutscope export --form", "--format"),
    ):  # fmt: skip
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - (not words.endswith(" "))))
        code, out, err = run(capsys)
        assert code == 0, err
        assert expected in out.split()


@pytest.mark.parametrize("quiet", [False, True])
def test_in_a_pipe_stages_are_lines_unless_quiet(folder, capsys, monkeypatch, tmp_path, quiet):
    monkeypatch.chdir(folder)
    words = ("audit", "--config", "audit.toml", "--out", tmp_path / "run", *(["-q"] if quiet else []))
    _, _, err = run(capsys, *words)
    lines = err.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == (
        [] if quiet else ["verify", "preprocessing", "scan"]
    )
    assert not any("|" in line for line in lines)
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "scan: done, " in log
    assert log.splitlines()[-1].endswith("finished, findings: 1")
