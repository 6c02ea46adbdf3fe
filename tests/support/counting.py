"""Files that count how often each of them is decoded, in whichever process."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from shortcutscope.data.sources import PathSource
from shortcutscope.data.table import ImageTable
from shortcutscope.types import Array


@dataclass(frozen=True)
class CountingPaths(PathSource):
    """Image files whose decoding is written down in the file `log`."""

    log: str = ""

    def read(self, i: int) -> Array:
        with Path(self.log).open("ab") as file:
            file.write(b"%d\n" % i)
        return super().read(i)


def counting(table: ImageTable, log: Path) -> ImageTable:
    """A table of files that writes down what it decodes."""
    source = table.source
    assert isinstance(source, PathSource)
    log.touch()
    return table.replaced(source=CountingPaths(source.names, source.root, source.reading, str(log)))


def decoded(log: Path) -> Counter[int]:
    """How often each image was decoded since this was last asked."""
    counts = Counter(map(int, log.read_text().split()))
    log.write_text("")
    return counts
