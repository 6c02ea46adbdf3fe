"""The larger rooms say what they do in a README, and the files that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import shortcutscope

PACKAGE = Path(shortcutscope.__file__).parent
#: A room of so many files is not understood by its names alone.
LARGE = 12
ROOMS = sorted(
    folder
    for folder in PACKAGE.iterdir()
    if folder.is_dir() and sum(1 for _ in folder.rglob("*.py")) >= LARGE
)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_large_room_has_a_readme(room):
    assert (room / "README.md").is_file()


@pytest.mark.parametrize("readme", sorted(PACKAGE.rglob("README.md")), ids=lambda path: path.parent.name)
def test_what_a_readme_names_is_there(readme):
    text = readme.read_text()
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", text):
        folder = PACKAGE.parent if name.startswith("tests/") else readme.parent
        assert (folder / name).exists(), name
