"""What was seen of findings on the pixels: kept beside them, and said in ``findings.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shortcutscope.audit.seal import FILE as SUMS
from shortcutscope.audit.seal import seal
from shortcutscope.files import read_json, read_object, slug, write_json
from shortcutscope.locking import locked
from shortcutscope.types import JSON, Record

#: Folder of a run that holds a file a finding.
FOLDER = "pixels"
_FINDINGS = "findings.json"


def pixel_file(run: Path, name: str) -> Path:
    """Where an intervention on a finding is kept."""
    return run / FOLDER / f"{slug(name)}.json"


def with_pixels(run: Path, findings: Sequence[Record], outputs: Sequence[JSON] = ()) -> list[Record]:
    """Findings with what is kept of each; what was tested of other samples is left out.

    Parameters
    ----------
    run
        The run directory.
    findings
        Entries of ``findings.json``.
    outputs
        Of several labels, the entry ``outputs`` of ``run.json``: each output has a run of its own.
    """
    homes = {entry["name"]: run / entry["folder"] for entry in outputs if entry.get("folder")}
    return [_with_its_own(homes.get(finding.get("output"), run), finding) for finding in findings]


def _with_its_own(run: Path, finding: Record) -> Record:
    path = pixel_file(run, str(finding.get("name")))
    if not path.exists():
        return finding
    stored, sizes = read_object(path), finding.get("n_samples") or {}
    counts = stored.get("counts", {})
    same = stored.get("concept") == finding["name"] and all(
        sizes.get(name) == counts.get(name) for name in ("known", "carriers")
    )
    return {**finding, "pixels": stored["summary"]} if same else finding


def say_in_findings(run: Path, outputs: Sequence[JSON] = ()) -> None:
    """Write what is kept into ``findings.json``, in one process at a time."""
    path = run / _FINDINGS
    with locked(run):
        write_json(path, with_pixels(run, read_json(path), outputs))
        if (run / SUMS).exists():
            seal(run)
