"""Finished cases on disk, so that an interrupted benchmark goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from shortcutscope._version import __version__
from shortcutscope.errors import InputError
from shortcutscope.files import read_json, to_json, write_json
from shortcutscope.types import Record

_NOT_MEASURED = ("cli", "__main__.py", "report")  # code that no case runs


class Records:
    """The cases of one suite under one choice of settings.

    Parameters
    ----------
    cache : Path
        Folder of all benchmarks; a finished case lies in ``<cache>/<suite>/<key>/result.json``.
    suite : str
        Name of the suite.
    settings : dict
        What the measurements depend on besides the case (quick, seed, data).
    """

    def __init__(self, cache: Path, suite: str, settings: Record) -> None:
        self.folder = Path(cache) / suite
        self.settings = settings

    def key(self, case: Record) -> str:
        """Digest of the case, the settings, the version and the package's source."""
        identity = {
            "case": case,
            "settings": self.settings,
            "version": __version__,
            "code": code_fingerprint(),
        }
        text = json.dumps(to_json(identity), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def finished(self, case: Record) -> Record | None:
        """Return the record of a case that ran before, None for one that did not or failed."""
        try:
            record: Record = read_json(self.folder / self.key(case) / "result.json")
        except InputError:
            return None
        return record

    def store(self, case: Record, record: Record, trace: str | None = None) -> None:
        """Keep a record; that of a failed case only for reading, it is not resumed from."""
        folder = self.folder / self.key(case)
        if record["error"] is None:
            write_json(folder / "result.json", record)
            (folder / "error.json").unlink(missing_ok=True)
        else:
            write_json(folder / "error.json", {**record, "traceback": trace})


@lru_cache
def code_fingerprint() -> str:
    """Digest of the package's source: a case measured with other code is measured again."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if relative.parts[0] not in _NOT_MEASURED:
            digest.update(relative.as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
