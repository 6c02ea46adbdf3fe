"""What holds of every command: its options are looked at first, and an interruption is told in one line."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from shortcutscope.errors import InputError

#: As a shell gives it for SIGINT.
INTERRUPTED = 130


class InterruptedCommandError(Exception):
    """The user, or the machine, ended the command: it leaves with exit code 130."""


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Look at a command's options before it begins, and turn an interruption into an error of its own.

    Click would answer an interruption with "Aborted!" and the code of a failure.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **given: Any) -> None:
        refuse_impossible(given)
        try:
            command(*args, **given)
        except KeyboardInterrupt as interruption:
            raise InterruptedCommandError from interruption

    return wrapper


def refuse_impossible(given: dict[str, Any]) -> None:
    """Refuse options that are out of their range, no word that is known, or empty.

    Raises
    ------
    InputError
        Names the option as it is typed.
    """
    from shortcutscope.allowed import check_options

    check_options(given, spelled=lambda name: f"--{name.replace('_', '-')} ")
    context = click.get_current_context()
    for name, value in given.items():
        typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and isinstance(value, str) and not value.strip(" ,"):
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
