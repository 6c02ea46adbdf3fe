"""Bars of progress: on a terminal or in a notebook, and nothing where the output goes to a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tqdm.auto import tqdm

from shortcutscope.processes import is_main


def progress_bar(
    items: Iterable[object] | None = None,
    *,
    desc: str,
    progress: bool,
    total: int | None = None,
    unit: str = "it",
    initial: int = 0,
    leave: bool = True,
) -> tqdm:
    """A bar, to iterate over or to be moved on by hand.

    Parameters
    ----------
    items
        What to iterate over.
    desc, total, unit, initial, leave
        As of `tqdm.tqdm`.
    progress
        Whether bars are wanted; of processes that share the work the first one shows them.
    """
    # None: off, unless standard error is a terminal, which that of a notebook does not say it is.
    disable = not progress or not is_main() or (False if "ipykernel" in sys.modules else None)
    return tqdm(items, desc=desc, total=total, unit=unit, initial=initial, leave=leave, disable=disable)
