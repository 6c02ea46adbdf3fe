"""Masks of a run in several formats at once, each told by its name or by its file's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run

from shortcutscope.cli.exporting import format_of, goals_of
from shortcutscope.errors import InputError
from shortcutscope.masks.writer import MaskWriter


@pytest.fixture
def masks(tmp_path):
    mask = np.zeros((12, 16), bool)
    mask[2:5, 3:9] = True
    with MaskWriter(tmp_path / "run" / "masks" / "tag", "tag") as writer:
        writer.append("s0", mask)
    return tmp_path / "run" / "masks" / "tag"


def test_several_formats_at_once(masks, tmp_path, capsys):
    code, out, err = run(
        capsys, "export", masks, "--format", "png", "--format", "npz", "--out", tmp_path / "x"
    )
    assert code == 0, err
    assert {line.partition(":")[0] for line in out.splitlines()} == {"png", "npz"}
    with np.load(tmp_path / "x" / "masks.npz") as archive:
        assert sum(archive[name].sum() for name in archive.files if archive[name].dtype == bool) == 18
    assert list((tmp_path / "x" / "png").rglob("*.png"))


def test_a_file_tells_its_format(masks, tmp_path, capsys):
    pytest.importorskip("pycocotools")
    code, _, err = run(capsys, "export", masks, "--out", tmp_path / "tag.json", "--out", tmp_path / "tag.xml")
    assert code == 0, err
    assert len(json.loads((tmp_path / "tag.json").read_text())["annotations"]) == 1
    assert "<mask" in (tmp_path / "tag.xml").read_text() or "<polygon" in (tmp_path / "tag.xml").read_text()


@pytest.mark.parametrize(
    ("out", "formats", "message"),
    [
        ([], [], "give --format, --out, or both"),
        (["masks.doc"], [], "does not tell its format"),
        (["a", "b"], ["png"], "2 --out and 1 --format"),
        ([], ["word"], "word"),
    ],
)
def test_what_cannot_be_written_is_refused(out, formats, message):
    with pytest.raises(InputError, match=message):
        goals_of(Path("run/masks/tag"), [Path(name) for name in out], formats)


def test_endings():
    assert [format_of(Path(name)) for name in ("a.JSON", "a.xml", "a.npz")] == ["coco", "cvat", "npz"]
