"""Registries: what of a kind there is by name, in this package and in others that add to it.

Another package adds a thing by an entry point of the registry's group, which names the object::

    [project.entry-points."shortcutscope.mask_formats"]
    geojson = "my_package.geojson:FORMAT"

Things are imported when they are asked for, so that the names of all can be listed at no cost.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from shortcutscope.errors import InputError

T = TypeVar("T")

_PACKAGE = "shortcutscope"


@dataclass(frozen=True)
class Entry:
    """One thing of a registry.

    Attributes
    ----------
    target
        The thing, or where it is: ``"module:name"``.
    doc
        What it is, in a line.
    needs
        The extra of this package that brings what it imports; empty for none.
    """

    target: Any
    doc: str = ""
    needs: str = ""

    def load(self) -> Any:
        """The thing itself."""
        if not isinstance(self.target, str):
            return self.target
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


class Registry(Generic[T]):
    """Things of one kind by name.

    Parameters
    ----------
    kind
        What they are called in errors, such as ``"mask format"``.
    group
        Of the entry points by which other packages add to it.
    entries
        What this package has.
    refuse
        Whether a name that there is already is an error; else what comes second is left out, see `clashes`.

    Examples
    --------
    >>> colours = Registry[int]("colour", "example.colours", {"red": Entry(0xFF0000, "as blood")})
    >>> colours["red"] == 0xFF0000, list(colours)
    (True, ['red'])
    """

    def __init__(self, kind: str, group: str, entries: Mapping[str, Entry], *, refuse: bool = True) -> None:
        self.kind = kind
        self.group = group
        #: What this package has.
        self.built_in = dict(entries)
        self._refuse = refuse
        #: What other packages add under names that there are already, in a sentence each.
        self.clashes: list[str] = []

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Everything by name: what this package has, then what others add.

        Raises
        ------
        InputError
            When another package adds a name that there is already, where that is refused.
        """
        entries = dict(self.built_in)
        self.clashes = []
        for point in sorted(entry_points(group=self.group), key=lambda point: _origin(point) != _PACKAGE):
            if point.name in entries:
                clash = (
                    f"{_origin(point)} adds a {self.kind} called {point.name!r}, which there is already; "
                    "it has to take another name, or be uninstalled"
                )
                if self._refuse:
                    raise InputError(clash)
                self.clashes.append(clash)
                continue
            entries[point.name] = Entry(point.value, f"of {_origin(point)}")
        return entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> T:
        """The thing of a name.

        Raises
        ------
        InputError
            When there is none, or it is another package's and cannot be imported.
        """
        if name not in self.entries:
            raise InputError(f"there is no {self.kind} {name!r}; allowed are {', '.join(self)}")
        entry = self.entries[name]
        if name in self.built_in:
            thing: T = entry.load()
            return thing
        try:
            added: T = entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"the {self.kind} {name!r} ({entry.doc}) cannot be loaded: {error}") from error
        return added

    def items(self) -> Iterator[tuple[str, T]]:
        """Every name with its thing, all imported."""
        return ((name, self[name]) for name in self)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self)})"


def _origin(point: EntryPoint) -> str:
    if point.value.startswith(f"{_PACKAGE}."):
        return _PACKAGE  # whose metadata need not be read for it
    return point.dist.name if point.dist is not None else point.value
