"""Which module an operation is called from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

from torch import nn


class ModuleScope:
    """While it is entered, `current` is the dotted name of the module that runs.

    Parameters
    ----------
    model
        Watched by hooks, which are gone afterwards.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._running: list[str] = []

    @property
    def current(self) -> str:
        """Innermost module that runs; empty for the model itself."""
        return self._running[-1] if self._running else ""

    @property
    def running(self) -> tuple[str, ...]:
        """All modules that run, outermost first."""
        return tuple(self._running)

    def __enter__(self) -> Self:
        self._hooks = ExitStack()
        for name, module in self._model.named_modules():
            self._hooks.enter_context(module.register_forward_pre_hook(self._entering(name)))
            self._hooks.enter_context(module.register_forward_hook(self._left, always_call=True))
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def _entering(self, name: str) -> Callable[..., None]:
        def hook(*arguments: Any) -> None:
            self._running.append(name)

        return hook

    def _left(self, *arguments: Any) -> None:
        self._running.pop()
