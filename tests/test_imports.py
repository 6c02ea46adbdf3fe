"""Imports run one way through the house, lazy ones and those for type checkers included."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import shortcutscope

PACKAGE = Path(shortcutscope.__file__).parent
#: From the ground up: a room imports from itself and from those before it.
ROOMS = [
    *(
        "_version",
        "_rooms",
        "types",
        "errors",
        "extras",
        "versions",
        "registry",
        "disk",
        "locking",
        "files",
        "processes",
        "machine",
        "progress",
        "show",
    ),
    *(
        "stats",
        "allowed",
        "options",
        "models",
        "data",
        "planting",
        "attribution",
        "scan",
        "probes",
        "discover",
    ),
    *(
        "audit",
        "retrieval",
        "masks",
        "pixels",
        "review",
        "debias",
        "compare",
        "embeddings",
        "report",
        "record",
    ),
    *("facade", "tracking", "cli", "benchmarks"),
]
#: The doors of the house open every room.
DOORS = {"shortcutscope", "shortcutscope.__main__"}


def modules() -> dict[str, Path]:
    named = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


MODULES = modules()


def imported(name: str) -> Iterator[str]:
    """Modules of the package that a module imports anywhere in its text."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found = whole if whole in MODULES else str(node.module)
                if found in MODULES and found != name:
                    yield found
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)


def room(name: str) -> str:
    return name.split(".")[1]


def test_every_room_has_its_place() -> None:
    assert {room(name) for name in MODULES if name not in DOORS} <= set(ROOMS)


def test_imports_run_downwards() -> None:
    upwards = [
        f"{name} imports {other}"
        for name in MODULES
        if name not in DOORS
        for other in imported(name)
        if other in DOORS or ROOMS.index(room(other)) > ROOMS.index(room(name))
    ]
    assert not upwards


def test_no_imports_run_in_circles() -> None:
    below = {name: {n for n in imported(name) if n not in DOORS} for name in MODULES if name not in DOORS}
    reached: dict[str, set[str]] = defaultdict(set)

    def circle(name: str, way: tuple[str, ...]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        for other in below[name]:
            if other not in reached["done"] and (found := circle(other, (*way, name))):
                return found
        reached["done"].add(name)
        return []

    for name in below:
        assert not circle(name, ())
