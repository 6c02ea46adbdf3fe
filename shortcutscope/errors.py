"""What can go wrong on the user's side, so that a caller can tell it from a defect."""

from __future__ import annotations


class ShortcutscopeError(Exception):
    """Base class: the command line prints its text without a traceback and exits with 1."""


class InputError(ShortcutscopeError, ValueError):
    """Data, a column, an option or a file that cannot be used as given.

    Examples
    --------
    >>> try:
    ...     ss.Statistics(n_permutations=-1)
    ... except ss.InputError as error:
    ...     print("refused")
    refused
    """


class StaleRunError(InputError):
    """A run directory was made from another model, data set, transform or setting."""


class ModelError(ShortcutscopeError, RuntimeError):
    """A model that cannot be scanned as it is: NaN outputs, compiled, reused modules named as layers."""
