"""What holds of every command.

Its options are looked at first, in a pipe it says by lines how far it is, and SIGTERM ends it as SIGINT does.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, NoReturn, get_type_hints

import typer

from shortcutscope.errors import InputError
from shortcutscope.processes import started, together
from shortcutscope.progress import plain_lines

#: Commands that several processes share, and one that shares its training by itself.
SHARED, BY_ITSELF = ("audit",), ("debias",)
#: As a shell gives it for SIGINT, and the parser for an interruption at whatever moment.
INTERRUPTED = 130


class FoundShortcutsError(Exception):
    """The audit ended well and found shortcuts: the command leaves with exit code 2."""


class NotDecidedError(Exception):
    """The audit ended well, but could not decide: the command leaves with exit code 3."""


#: Names of the options that were typed, of the command that runs.
_TYPED: ContextVar[frozenset[str]] = ContextVar("typed", default=frozenset())


def typed(name: str) -> bool:
    """Whether an option was typed, or left at its default."""
    return name in _TYPED.get()


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Look at a command's options before it begins."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, include_extras=True)
    parameters = [
        parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in signature.parameters.items()
    ]
    own = "context" in signature.parameters

    @functools.wraps(command)
    def wrapper(*args: Any, context: typer.Context, **given: Any) -> None:
        sources = {name: context.get_parameter_source(name) for name in given}
        chosen = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
        before = _TYPED.set(frozenset(chosen))
        try:
            refuse_repeated(context)
            refuse_impossible(given)
            with _shared(command), plain_lines():
                command(*args, **given, **({"context": context} if own else {}))
        finally:
            _TYPED.reset(before)

    if not own:
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter("context", kind, annotation=typer.Context))
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del wrapper.__wrapped__
    return wrapper


@contextlib.contextmanager
def _shared(command: Callable[..., None]) -> Iterator[None]:
    """Share a command with the other processes, of which the first one speaks, or refuse them.

    Raises
    ------
    InputError
        A command that is no work for several processes.
    """
    if started() == 1 or command.__name__ in BY_ITSELF or not command.__module__.startswith("shortcutscope."):
        yield
        return
    with together():
        if command.__name__ not in SHARED:
            raise InputError(
                f"shortcutscope {command.__name__} runs in one process, and {started()} were started: "
                f"start it without torchrun. Several processes share {' and '.join((*SHARED, *BY_ITSELF))}"
            )
        yield


def refuse_repeated(context: typer.Context) -> None:
    """Refuse an option that is typed twice and holds one value: the parser would forget the first.

    Raises
    ------
    InputError
        Names the option.
    """
    words = [word.partition("=")[0] for word in context.obj or ()]
    for parameter in context.command.params:
        names = {*parameter.opts, *parameter.secondary_opts}
        typed_names = [word for word in words if word in names and word.startswith("--")]
        if len(typed_names) > 1 and not getattr(parameter, "multiple", False):
            by_commas = "comma-separated" in (getattr(parameter, "help", None) or "")
            raise InputError(
                f"{' and '.join(dict.fromkeys(typed_names))} given {len(typed_names)} times: give "
                + ("all in one, separated by commas" if by_commas else "one")
            )


def refuse_impossible(given: dict[str, Any]) -> None:
    """Refuse options that are out of their range, no word that is known, or empty.

    Raises
    ------
    InputError
        Names the option as it is typed.
    """
    from shortcutscope.allowed import check_options

    check_options(given, spelled=lambda name: f"--{name.replace('_', '-')} ")
    for name, value in given.items():
        if typed(name) and isinstance(value, str) and not value.strip(" ,"):
            raise InputError(f"--{name.replace('_', '-')} is empty; leave it out for the default")


@contextlib.contextmanager
def ended_alike() -> Iterator[None]:
    """Let SIGTERM, which machines send, end a command as SIGINT does: what was done so far is kept."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
