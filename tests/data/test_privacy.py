"""What may be said of where files lie."""

from __future__ import annotations

import pytest

from shortcutscope.data.privacy import redacted_command, redacted_line, without_folders


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cannot read '/data/p 7/a.png': truncated", "cannot read '*.png': truncated"),
        ('cannot read "C:\\\\p\\\\a.nii.gz" (x)', 'cannot read "*.nii.gz" (x)'),
        ("in /home/me/run/scan, say", "in *, say"),
        ("half of 1/2, and/or a/b.png", "half of 1/2, and/or a/b.png"),
    ],
)
def test_r7_texts_without_folders(text, said):
    assert without_folders(text) == said


def test_r7_a_command_holds_names_only(tmp_path, monkeypatch):
    (tmp_path / "p7").mkdir()
    (tmp_path / "p7" / "x.csv").touch()
    monkeypatch.chdir(tmp_path)
    words = ["audit", "timm:resnet18", "hf:microsoft/resnet-50", "p7/x.csv", "./p7/x.csv", "~/p7/x.csv"]
    words += [f"--root={tmp_path}/p7", f"chexpert:{tmp_path}/c", f"{tmp_path}/net.py:make", "D:\\p7\\x.csv"]
    words += ["--mean", ".485,.456", "--model-kwargs", f'{{"a": "{tmp_path}/w.pt", "b": 1}}']
    assert redacted_command(words) == [
        *("audit", "timm:resnet18", "hf:microsoft/resnet-50", "x.csv", "x.csv", "x.csv"),
        *("--root=p7", "chexpert:c", "net.py:make", "x.csv"),
        *("--mean", ".485,.456", "--model-kwargs", '{"a": "*.pt", "b": 1}'),
    ]
    assert redacted_line("shortcutscope demo --out '/a b/c d'") == "shortcutscope demo --out 'c d'"
    assert redacted_line("it's /a/b.png") == "it's *.png"
