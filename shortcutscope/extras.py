"""Optional packages: imported where they are used, with the extra that brings them named when missing."""

from __future__ import annotations

import importlib
from typing import Any

from shortcutscope.errors import InputError


class MissingExtraError(InputError):
    """A package that only some formats need is not installed."""


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional package.

    Parameters
    ----------
    module
        Its full name, ``"pycocotools.mask"``.
    extra
        The extra of this package that brings it.
    purpose
        What needs it, as the start of a sentence.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'{purpose} needs {module.split(".")[0]}: pip install "shortcutscope[{extra}]"'
        ) from error


def require_package(module: str, purpose: str) -> Any:
    """Import a package of the user's that no extra of this package brings.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{purpose} needs {module}: pip install {module.split('.')[0]}") from error
