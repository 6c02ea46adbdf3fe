"""Texts name modules, functions and classes that there are."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOTTED = re.compile(r"\bshortcutscope(?:\.[A-Za-z_]\w*)+")
#: Groups of entry points look like modules.
GROUP = re.compile(r'"(shortcutscope\.\w+)",\s*\{')


def texts() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield ROOT / "CONTRIBUTING.md"
    yield from (ROOT / "docs").rglob("*.md")
    yield from (ROOT / "notebooks").glob("*.ipynb")
    yield from (ROOT / "shortcutscope").rglob("*.py")
    yield from (ROOT / "shortcutscope").rglob("README.md")


def exists(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


def test_what_texts_name_is_there() -> None:
    named = {name: path for path in texts() for name in DOTTED.findall(path.read_text(encoding="utf-8"))}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "shortcutscope").rglob("*.py")]
    groups = {name for source in sources for name in GROUP.findall(source)}
    assert groups
    missing = [f"{path.relative_to(ROOT)}: {name}" for name, path in named.items() if not exists(name)]
    assert not [text for text in missing if text.split(": ")[1] not in groups]
