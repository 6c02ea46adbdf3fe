"""The documentation names what there is, and everything public says what it does."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shortcutscope as ss

ROOT = Path(__file__).parents[1]


def public() -> Iterator[tuple[str, object]]:
    """Names of the front door, and the public members of its classes that this package defines."""
    for name in ss.__all__:
        thing = getattr(ss, name)
        if name == "__version__" or name == "phantoms":
            continue
        if inspect.ismodule(thing):
            thing = thing._function
        yield name, thing
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
                yield f"{name}.{member}", value


def test_everything_public_says_what_it_does() -> None:
    assert [name for name, thing in public() if not inspect.getdoc(thing)] == []


def test_the_reference_has_every_name_and_every_name_that_it_has_is_there() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    for name in ss.__all__:
        if name != "__version__":
            assert f"`ss.{name}`" in text, name
    for home in re.findall(r"^\.\. auto\w+:: (\S+)$", text, flags=re.MULTILINE):
        module, _, name = home.rpartition(".")
        assert hasattr(importlib.import_module(module), name), home


def test_the_page_on_the_command_line_has_every_command_and_option() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        page = importlib.import_module("command_line").command_line_page()
    finally:
        sys.path.remove(str(ROOT / "docs"))
    from shortcutscope.cli import COMMANDS

    for name in COMMANDS:
        assert f"\n## {name}\n" in page
    assert "`--permutations" in page
    assert "shortcutscope export runs/derm/masks/ruler --format png --format coco" in page


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("myst_nb", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "--keep-going", "-W", "docs", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in ("api.html", "_made/command_line.html", "_made/05_nih_films.html"):
        assert (tmp_path / "site" / page).is_file()
