"""A stage whose record comes with what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Record = TypeVar("Record")
Result = TypeVar("Result")


def giving(run: Callable[P, Record], result: Callable[[Record], Result]) -> Callable[P, Result]:
    """The stage `run`, of whose record `result` makes what is given."""

    @wraps(run)
    def stage(*args: P.args, **kwargs: P.kwargs) -> Result:
        return result(run(*args, **kwargs))

    return stage


def widened(record: Any, result: type[Result]) -> Result:
    """A record as a class that is derived from its own."""
    return result(**{f.name: getattr(record, f.name) for f in fields(record)})
