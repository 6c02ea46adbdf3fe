"""What ``shortcutscope doctor`` looks up: versions, devices, extras."""

from __future__ import annotations

import re
from importlib import metadata

from shortcutscope.machine import default_cache, machine


def describe() -> dict[str, dict[str, str]]:
    """Sections of names and values, in the order in which they are shown."""
    found = machine()
    return {
        "machine": {
            "system": found["system"],
            "processor": found["processor"],
            "cores": str(found["cores"]),
            "accelerator": found["accelerator"] or "none (CPU)",
            "benchmark cache": str(default_cache()),
        },
        "required packages": {
            "python": found["python"],
            "shortcutscope": metadata.version("shortcutscope"),
            **{name: _version(name) for name in _requirements(None)},
        },
        "extras": {extra: _state(_requirements(extra), extra) for extra in _extras()},
    }


def _requirements(extra: str | None) -> list[str]:
    """Names of the packages that the distribution requires, always or for an extra."""
    names = []
    for line in metadata.requires("shortcutscope") or []:
        needed = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", line)
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and (needed.group(1) if needed else None) == extra and name.group() != "shortcutscope":
            names.append(name.group())
    return names


def _extras() -> list[str]:
    return metadata.metadata("shortcutscope").get_all("Provides-Extra") or []


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "MISSING"


def _state(names: list[str], extra: str) -> str:
    missing = [name for name in names if _version(name) == "MISSING"]
    if not missing:
        return "installed"
    return f'missing {", ".join(missing)}: pip install "shortcutscope[{extra}]"'
