"""Checksums of what an audit changes, so that a later change of any of it is seen.

The file is what ``sha256sum --check`` reads. Who keeps its own digest elsewhere, as records of a run do, also
sees whether it was made anew.
"""

from __future__ import annotations

from pathlib import Path

from shortcutscope.disk import checksum, inside
from shortcutscope.errors import InputError
from shortcutscope.files import write_atomically
from shortcutscope.scan.reading import Scan

FILE = "SHA256SUMS"
#: What is written later, has checksums of its own, or says where the data are.
_NOT_SEALED = (
    FILE, "log.txt", "report.html", "origin.json", "audit.toml", "masks", "students", "comparison",
    "comparison.json", "pixels", "marks", "outputs",
)  # fmt: skip
_MEND = "it was changed since: run the same audit again, which computes and writes it anew"


def seal(run: Path) -> Path:
    """Write the checksums of a finished run's results; shards of its scan are named by their manifest."""
    lines = [f"{checksum(run / name)}  {name}\n" for name in _sealed_files(run)]
    path = run / FILE
    write_atomically(path, lambda file: file.write("".join(lines).encode()))
    return path


def changed_files(run: Path, digest: str | None = None) -> list[str]:
    """What is not as the audit left it, in words; empty where all is.

    Parameters
    ----------
    run
        The run directory.
    digest
        SHA-256 of the file of checksums, as a record of the run has it.

    Raises
    ------
    InputError
        When the run has no checksums.
    """
    path = run / FILE
    if not path.is_file():
        raise InputError(
            f"{run} has no {FILE}: it is no finished run, or one of an earlier version; the same audit into "
            "the same folder adds it"
        )
    changes = []
    if digest is not None and checksum(path) != digest:
        changes.append(f"{FILE}: its digest is {checksum(path)}, not {digest}: {_MEND}")
    sums = _read(path)
    for name, expected in sums.items():
        file = inside(run, name)
        if not file.is_file():
            changes.append(f"{name} is missing: {_MEND}")
        elif checksum(file) != expected:
            changes.append(f"{name}: {_MEND}")
    changes += [
        f"{name} was added: it is no part of the audit" for name in _sealed_files(run) if name not in sums
    ]
    try:
        Scan.open(run / "scan")
    except InputError as error:
        changes.append(str(error))
    return changes


def _sealed_files(run: Path) -> list[str]:
    files = [path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file()]
    return [
        path.as_posix()
        for path in files
        if path.parts[0] not in _NOT_SEALED
        and not any(part.startswith(".") for part in path.parts)
        and path.suffix != ".safetensors"
    ]


def _read(path: Path) -> dict[str, str]:
    entries = [line.partition("  ") for line in path.read_text(encoding="utf-8").splitlines() if line]
    if not entries or not all(len(digest) == 64 and name for digest, _, name in entries):
        raise InputError(f"{path} is no list of checksums: {_MEND}")
    return {name: digest for digest, _, name in entries}
