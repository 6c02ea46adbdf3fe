"""What was seen of findings on the pixels: kept beside them, and said by the verdict.

Layers say that a network responds to a concept, or that it does not; an intervention on the image is the
plainer evidence. So where it is confirmed that the network follows the pixels,

- a property of the pictures is used, and what remains open is only where it comes from;
- a concept that goes with the label is used, also where the layers did not show it.

A verdict is never milder for what was not confirmed: masks and transfers may miss what the network follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shortcutscope.audit.seal import FILE as SUMS
from shortcutscope.audit.seal import seal
from shortcutscope.files import read_json, read_object, slug, write_json
from shortcutscope.locking import locked
from shortcutscope.probes.verdict import CONCERN
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
        Entries of ``findings.json``, by rank.
    outputs
        Of several labels, the entry ``outputs`` of ``run.json``: each output has a run of its own.
    """
    homes = {entry["name"]: run / entry["folder"] for entry in outputs if entry.get("folder")}
    concluded = [_with_its_own(homes.get(finding.get("output"), run), finding) for finding in findings]
    return sorted(concluded, key=_concern)


def _concern(finding: Record) -> int:
    verdict = finding.get("verdict")
    return CONCERN.index(verdict) if verdict in CONCERN else len(CONCERN)


def _with_its_own(run: Path, finding: Record) -> Record:
    path = pixel_file(run, str(finding.get("name")))
    if not path.exists():
        return finding
    stored, sizes = read_object(path), finding.get("n_samples") or {}
    counts = stored.get("counts", {})
    same = stored.get("concept") == finding["name"] and all(
        sizes.get(name) == counts.get(name) for name in ("known", "carriers")
    )
    return _concluded(finding, stored["summary"]) if same else finding


def _concluded(finding: Record, summary: Record) -> Record:
    """A finding with its intervention, by which its verdict may change; that of the layers stays in it."""
    own = {key: finding[key] for key in ("verdict", "reason")}
    by_layers = (finding.get("pixels") or {}).get("by_layers") or own
    changed = _used(by_layers, finding, summary) if summary["word"] == "confirmed" else None
    return {**finding, **(changed or by_layers), "pixels": {**summary, "by_layers": by_layers}}


def _used(by_layers: Record, finding: Record, summary: Record) -> Record | None:
    """Verdict and reason of what was confirmed on the pixels; None where those of the layers hold."""
    verdict, seen = by_layers["verdict"], summary["reason"]
    if verdict == "encoded and used, a picture property":
        reason = (
            "the network uses this property of the pictures, which is associated with the label, confirmed "
            f"on the pixels: {seen}. Whether it comes from the acquisition or from the disease remains to be "
            "judged"
        )
        return {"verdict": "used on the pixels, a picture property", "reason": reason}
    associated = (finding.get("association") or {}).get("value")
    if verdict in ("encoded, not used", "not encoded") and associated:
        reason = (
            f"it is associated with the label, and confirmed on the pixels: {seen}. Of the layers it was "
            f"said: {by_layers['reason']}"
        )
        return {"verdict": "used on the pixels", "reason": reason}
    return None


def say_in_findings(run: Path, outputs: Sequence[JSON] = ()) -> None:
    """Write what is kept into ``findings.json``, in one process at a time."""
    path = run / _FINDINGS
    with locked(run):
        write_json(path, with_pixels(run, read_json(path), outputs))
        if (run / SUMS).exists():
            seal(run)
