"""Whether two names mean one output or label: neither case nor blanks, underscores and hyphens tell."""

from __future__ import annotations

from collections.abc import Sequence


def plain_name(name: str) -> str:
    """What makes a name the same.

    Examples
    --------
    >>> plain_name("Pleural_Thickening") == plain_name("pleural  thickening")
    True
    """
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def positions_of(name: str, names: Sequence[str]) -> list[int]:
    """Where a name stands among others: as it is written, or else loosely."""
    exact = [k for k, other in enumerate(names) if other == name]
    wanted = plain_name(name)
    return exact or [k for k, other in enumerate(names) if wanted and plain_name(other) == wanted]
