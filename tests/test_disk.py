"""What the disk answers, and damaged files, in words."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from shortcutscope.cli import main
from shortcutscope.disk import explained, inside, intact
from shortcutscope.errors import InputError, ModelError


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "check the rights"),
        (errno.EROFS, "read-only"),
        (errno.EISDIR, "folder where a file is needed"),
        (errno.ENAMETOOLONG, "shorter"),
        (errno.EBUSY, "busy"),
    ],
)
def test_r12_an_error_of_the_disk_names_its_file_and_what_to_do(number: int, words: str) -> None:
    told = explained(OSError(number, "Device or resource busy", "scan/manifest.json"))
    assert told.startswith("scan/manifest.json: ")
    assert words in told


def test_a_library_s_error_without_a_number_keeps_its_text() -> None:
    assert explained(OSError("cannot identify image file")) == "cannot identify image file"


@pytest.mark.parametrize(
    "raised", [KeyError("images"), EOFError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x")]
)
def test_r12_whatever_a_parser_raises_is_damage(raised: Exception) -> None:
    refused = pytest.raises(InputError, match=r"a\.npz is damaged, or not a gallery .*: run it again")
    with refused as caught, intact("a.npz", "a gallery", "run it again"):
        raise raised
    assert caught.value.__cause__ is raised


def test_a_missing_file_and_a_folder_in_its_place_are_told_apart(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="is missing: run it again"),
        intact(tmp_path / "a", "JSON", "run it again"),
    ):
        (tmp_path / "a").read_text()
    with (
        pytest.raises(InputError, match="folder where a file is needed"),
        intact(tmp_path, "JSON", "run it again"),
    ):
        tmp_path.read_text()


def test_the_package_s_own_errors_pass() -> None:
    with pytest.raises(ModelError, match="as it was"), intact("a", "JSON", "run it again"):
        raise ModelError("as it was")


def test_r12_the_command_line_ends_with_a_message_where_the_disk_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/run.json")

    monkeypatch.setattr("shortcutscope.cli.environment.describe", refuse)
    with pytest.raises(SystemExit) as leaving:
        main(["doctor"])
    assert leaving.value.code == 1
    assert "error: /somewhere/run.json: access is denied" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["../a", "b/../../a", "/etc/hostname", "..\\a", "C:\\a", "", "a\0b", "link", "far/a"]
)
def test_r6_files_that_a_manifest_names_lie_beside_it(tmp_path, name):
    own = tmp_path / "own"
    (tmp_path / "else").mkdir()
    own.mkdir()
    (own / "link").symlink_to(tmp_path / "a")
    (own / "far").symlink_to(tmp_path / "else")
    with pytest.raises(InputError, match=r"own names the file .*, which lies outside of it"):
        inside(own, name)
    assert inside(own, "b/c.bin") == own / "b" / "c.bin"
