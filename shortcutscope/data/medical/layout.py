"""How a public data set lies on disk, and what is said where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from shortcutscope.data.manifests.columns import quoted
from shortcutscope.data.manifests.manifest import read_manifest
from shortcutscope.errors import InputError

__all__ = ["DatasetLayout", "LayoutError"]


class LayoutError(InputError):
    """A folder is not laid out as the data set that it was taken for."""


@dataclass(frozen=True)
class DatasetLayout:
    """What the folder of a data set holds, and where the data is to be had.

    Attributes
    ----------
    name
        As the data set's authors write it.
    tree
        Its files, one line each, as they are published.
    source
        Where the data is to be had.
    """

    name: str
    tree: tuple[str, ...]
    source: str

    def error(self, root: str | Path, what: str) -> LayoutError:
        """An error that says what is odd, which layout is expected, and where the data is to be had."""
        lines = "\n  ".join(self.tree)
        return LayoutError(
            f"{str(root)!r} is not laid out as {self.name}: {what}. Expected is\n  {lines}\n"
            f"The data is to be had from {self.source}."
        )

    def folder(self, root: str | Path, *names: str) -> Path:
        """The root, or the first of these folders below it that exists.

        Raises
        ------
        LayoutError
            When there is none.
        """
        root = Path(root)
        for path in [root / name for name in names] or [root]:
            if path.is_dir():
                return path
        raise self.error(root, f"there is no folder {' or '.join(map(repr, names)) or repr(str(root))}")

    def file(self, root: str | Path, *names: str) -> Path:
        """The first of these files below the root that exists.

        Raises
        ------
        LayoutError
            When there is none.
        """
        for name in names:
            if (path := Path(root) / name).is_file():
                return path
        raise self.error(root, f"there is no file {' or '.join(map(repr, names))}")

    def table(
        self, root: str | Path, path: Path, columns: Sequence[str], text: Sequence[str] = ()
    ) -> pd.DataFrame:
        """A table of the data set, with spaces around its column names stripped.

        Parameters
        ----------
        root
            Of the data set.
        path
            The table, a CSV or Parquet file.
        columns
            That it must have.
        text
            Columns that stay text, so that the id ``007`` stays one.

        Raises
        ------
        LayoutError
            When it cannot be read, has no row, or lacks a column.
        """
        try:
            frame = read_manifest(path, list(text))
        except InputError as error:
            raise self.error(root, str(error)) from error
        frame.columns = [str(column).strip() for column in frame.columns]
        missing = [column for column in columns if column not in frame.columns]
        if missing:
            has = quoted(list(frame.columns), 12)
            raise self.error(root, f"{path.name} lacks the column {quoted(missing)}; it has {has}")
        if frame.empty:
            raise self.error(root, f"{path.name} has no row")
        return frame
