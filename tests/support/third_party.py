"""Another package that adds to the registries, as an installed distribution but for pip."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shortcutscope.attribution.methods import METHODS
from shortcutscope.cli import COMMANDS
from shortcutscope.data.medical import DATASETS
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.discover.views import VIEWS
from shortcutscope.masks.formats import FORMATS
from shortcutscope.models.sources import SOURCES
from shortcutscope.pixels.transfers import TRANSFERS
from shortcutscope.registry import Registry

#: Every registry of the package.
REGISTRIES = (METHODS, COMMANDS, DATASETS, FORMATS, RECIPES, SOURCES, TRANSFERS, VIEWS)


def forget() -> None:
    """What the registries know of other packages."""
    for registry in REGISTRIES:
        registry.__dict__.pop("entries", None)


def distribution(folder: Path, group: str, target: str, code: str = "", *, name: str = "thirdparty") -> None:
    """Write the package ``third-party-kit`` with one module, ``third_party_kit``, and one entry point."""
    info = folder / "third_party_kit-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party-kit\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    (folder / "third_party_kit.py").write_text(textwrap.dedent(code))


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install another package for one test: its registry, where its thing is, and its module's text."""

    def install(registry: Registry[object], target: str, code: str = "", **options: str) -> None:
        folder = tmp_path / "site-packages"
        distribution(folder, registry.group, f"third_party_kit:{target}", code, **options)
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        forget()

    yield install
    sys.modules.pop("third_party_kit", None)
    monkeypatch.undo()
    forget()
