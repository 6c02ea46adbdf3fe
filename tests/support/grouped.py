"""Options by their own names, for tests that vary one at a time, put into the groups that functions take."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def grouped(options: dict[str, Any], **groups: Any) -> dict[str, Any]:
    """Keywords of a call: each option in the first of the groups (keyword to class) that has it."""
    options = dict(options)
    given = {}
    for keyword, kind in groups.items():
        names = [field.name for field in fields(kind) if field.name in options]
        if names:
            given[keyword] = kind(**{name: options.pop(name) for name in names})
    return {**options, **given}
