"""The documentation names what there is, and everything public says what it does."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

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
        page = importlib.import_module("command_pages").command_line_page()
    finally:
        sys.path.remove(str(ROOT / "docs"))
    from shortcutscope.cli import COMMANDS

    for name in COMMANDS:
        assert f"\n## {name}\n" in page
    assert "`--permutations" in page
    assert "shortcutscope export runs/derm/masks/ruler --format png --format coco" in page


def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = module
    spec.loader.exec_module(module)
    return module


def test_the_gallery_has_the_code_that_drew_its_pictures() -> None:
    made = gallery()
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == made.page()
    names = {f"{entry.name}.png" for entry in made.ENTRIES}
    assert names == {path.name for path in (ROOT / "docs" / "gallery").iterdir()}


@pytest.mark.slow
def test_the_gallery_is_drawn_by_its_code(tmp_path: Path) -> None:
    made = gallery()
    made.draw(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {entry.name for entry in made.ENTRIES}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("myst_nb", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "--keep-going", "-W", "docs", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in ("api.html", "_made/command_line.html", "_made/05_nih_films.html"):
        assert (tmp_path / "site" / page).is_file()


BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(text: str) -> Iterator[list[str]]:
    """Words of every shortcutscope command in the shell blocks of a page."""
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\|", line.split("  #")[0]):
                words = shlex.split(part, comments=True)
                if words and words[0] == "shortcutscope":
                    yield words[1:]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if "_made" not in p.parts], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_every_command_of_a_page_is_one_that_there_is(page: Path) -> None:
    from typer.main import get_command

    from shortcutscope.cli import COMMANDS, _app

    app = get_command(_app(list(COMMANDS)))
    for words in commands_of(page.read_text()):
        name = words[0]
        options = {o for p in app.params for o in p.opts} | {"--help"}
        if not name.startswith("-"):
            assert name in app.commands, words  # type: ignore[attr-defined]
            parameters = app.commands[name].params  # type: ignore[attr-defined]
            options |= {option for p in parameters for option in (*p.opts, *p.secondary_opts)}
        given = [word.partition("=")[0] for word in (w.strip("[]") for w in words) if word.startswith("--")]
        assert set(given) <= options, words
