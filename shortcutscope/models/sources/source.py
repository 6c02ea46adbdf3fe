"""What a source of models is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shortcutscope.models.preprocessing import Preprocessing
from shortcutscope.types import JSON

Factory = Callable[..., Any]


class Stored(NamedTuple):
    """A checkpoint that belongs to a name, where it lies on this machine, and where it is had from."""

    path: Path
    from_where: str


@dataclass(frozen=True)
class ModelSource:
    """Architectures by name.

    Attributes
    ----------
    factory
        Gives the factory of an architecture, which is called with keywords and returns a module; raises
        `InputError` for a name that it does not know.
    published
        How a factory is asked for published weights of a name, or None where they are no published ones. A
        source that has such builds networks with random weights where none are asked for.
    preprocessing
        How images become the input of a name, with published weights or None; raises `InputError`, which says
        why, where that is not known. None for a source that knows of no preprocessing.
    stored
        The checkpoint that a name stands for; None for a name of an architecture alone. Such networks have
        random weights.
    complete
        Whether a factory loads the weights itself.
    """

    factory: Callable[[str], Factory]
    published: Callable[[str], JSON | None] | None = None
    preprocessing: Callable[[str, str | None], Preprocessing] | None = None
    stored: Callable[[str], Stored | None] | None = None
    complete: bool = False

    def has_weights(self, name: str) -> bool:
        """Whether a name stands for a trained network, and not for an architecture."""
        return self.complete or (self.stored is not None and self.stored(name) is not None)

    @property
    def may_be_random(self) -> bool:
        """Whether a network may come out untrained without that being asked for."""
        return self.published is not None or self.stored is not None


def suggestion(name: str, names: Iterable[str]) -> str:
    """What was meant, as the end of an error's text; empty where nothing is like it."""
    close = difflib.get_close_matches(name, list(names), n=4)
    return f"; did you mean {' or '.join(close)}?" if close else ""
