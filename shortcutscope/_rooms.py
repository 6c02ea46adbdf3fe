"""Rooms that bear the name of what is done in them: ``ss.audit(...)`` audits, and is the folder ``audit``.

After ``import shortcutscope.audit`` Python binds the folder on the package, where users call a function of
that name. So the folder itself can be called: both are one object, and neither hides the other.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class Room(ModuleType):
    """A package that is called as the function of its name in the module that ``_door`` names."""

    _door: str

    @property
    def _function(self) -> Any:
        return getattr(importlib.import_module(self._door), self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return inspect.getdoc(self._function)


def make_callable(name: str, door: str) -> None:
    """Let the package `name` be called as the function of its own name in the module `door`."""
    module = sys.modules[name]
    module.__dict__["_door"] = door
    module.__class__ = Room
