"""Interventions on findings of an audit: the audited network, samples and scores; results lie in the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from shortcutscope.audit.finding import FindingRecord
from shortcutscope.audit.identity import refuse_other_data, refuse_other_model
from shortcutscope.audit.pixel_results import FOLDER, pixel_file, say_in_findings
from shortcutscope.audit.run_directory import RunDirectory, read_record
from shortcutscope.data.table import ImageTable
from shortcutscope.disk import require_writable
from shortcutscope.errors import InputError
from shortcutscope.files import slug
from shortcutscope.masks.annotation import refuse_symmetric
from shortcutscope.masks.manifest import MANIFEST
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.models.heads.head import Head
from shortcutscope.options import Statistics
from shortcutscope.pixels.intervening import InterveneOptions, intervene
from shortcutscope.pixels.options import Intervening
from shortcutscope.pixels.result import PixelTest
from shortcutscope.pixels.transfers import TRANSFERS
from shortcutscope.probes.association import recorded
from shortcutscope.scan.reading import Scan
from shortcutscope.types import JSON

#: Of what is measured: kept parts of another number are measured anew.
ALGORITHM = 2
STAGE = "pixels"


def intervene_on_finding(
    finding: FindingRecord,
    model: nn.Module,
    data: ImageTable,
    *,
    masks: MaskSet | str | Path | None = None,
    out: str | Path | None = None,
    **options: Unpack[InterveneOptions],
) -> PixelTest:
    """Take a finding out of the pixels, put it into them, and keep what the network answers.

    Parameters
    ----------
    finding
        Read from a run.
    model, data
        Those that were audited.
    masks
        Of its carriers; None for those that were drawn in the run, if there are any.
    out
        Folder of the result; by default ``pixels`` in the run, and then ``findings.json`` says it, too.
    **options
        Of `shortcutscope.pixels.intervening.intervene`.

    Raises
    ------
    InputError
        For a finding that was not read from a run, another model or other data, and one that is localized
        and has no masks.
    """
    run = finding.home()
    refuse_other_model(run, model)
    data = data.keeping(options.get("running"))
    refuse_other_data(run, data)
    whole_scan = Scan.open(run / "scan")
    # The audited samples in their order; those with the same picture are of one patient.
    data = whole_scan.rows_of(data).with_columns(group=whole_scan.samples["group"].to_numpy())
    intervening = options.get("intervening") or Intervening()
    mask_set = _masks(finding, run, masks, intervening)
    folder = run / FOLDER if out is None else Path(out)
    require_writable(folder)
    association = recorded(finding.association)
    statistics = options.get("statistics") or Statistics()
    if association is not None and statistics.positive not in (None, association.positive):
        raise InputError(
            f"positive={statistics.positive}: the finding was audited for class {association.positive}; "
            "leave it out"
        )
    depends = {
        "concept": finding.concept.fingerprint(),
        "intervening": {k: v for k, v in asdict(intervening).items() if k != "pictures"},
        "seed": statistics.seed,
        "masks": None if mask_set is None else _digest(mask_set),
        "algorithm": ALGORITHM,
        "association": None if association is None else (association.phi, association.positive),
    }
    test = intervene(
        model,
        data,
        finding.concept,
        masks=mask_set,
        association=association,
        head=Head.from_json(read_record(run).get("head")),
        keeping=_keeping(run, finding.name, depends),
        **options,
    )
    test.save(folder)
    if out is None:
        _say(run, finding)
    return test


def open_pixel_test(finding: FindingRecord) -> PixelTest | None:
    """What is kept of a finding; None where there was no intervention."""
    path = pixel_file(finding.home(), finding.name)
    return PixelTest.open(path) if path.exists() else None


def confirmed_transfer(finding: FindingRecord | None) -> str | None:
    """The transfer by which a finding was seen on the pixels, or None."""
    if finding is None:
        return None
    stored = None if finding.pixels or finding.run is None else open_pixel_test(finding)
    test = finding.pixels if stored is None else stored.summary()
    if test.get("way") != "transfer" or test.get("word") not in ("confirmed", "supported"):
        return None
    return str(test["how"]) if test["how"] in TRANSFERS else None


def _say(run: Path, finding: FindingRecord) -> None:
    say_in_findings(run)
    whole = run.parent.parent
    if finding.output is not None and (whole / "run.json").exists():
        say_in_findings(whole, read_record(whole).get("outputs") or ())


def _masks(
    finding: FindingRecord, run: Path, masks: MaskSet | str | Path | None, intervening: Intervening
) -> MaskSet | None:
    """The masks that are used, refused before any work where there are none and there should be."""
    if intervening.way == "transfer" or (intervening.way == "auto" and intervening.transfer is not None):
        return None
    mask_folder = run / "masks" / slug(finding.name)
    if masks is None and (mask_folder / MANIFEST).exists():
        masks = mask_folder
    if masks is None:
        if intervening.way == "erase" or finding.extent == "localized":
            raise InputError(
                f"{finding.name!r} needs masks to be erased, and there are none in {mask_folder}: draw them "
                f"(finding.annotate(model, data), shortcutscope annotate {run} {finding.name!r}), give "
                "masks= (--masks) from elsewhere, or way='transfer' (--way transfer) to move whole images"
            )
        return None
    refuse_symmetric(finding.concept)
    mask_set = masks if isinstance(masks, MaskSet) else MaskSet.open(masks)
    if not mask_set.complete:
        raise InputError(f"the masks in {mask_set.folder} are not finished; make them to the end first")
    return mask_set


def _digest(masks: MaskSet) -> str:
    entries = sorted((e.sample_id, e.digest, e.accepted) for e in masks.entries)
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:16]


def _keeping(run: Path, name: str, depends: JSON) -> Callable[[str, Callable[[], Any]], Any]:
    """Parts of the work lie in the run's stages, so that an interrupted one goes on."""
    directory = RunDirectory(run, read_record(run).get("inputs", {}))

    def keep(part: str, compute: Callable[[], Any]) -> Any:
        return directory.cached(STAGE, f"{name} {part}", depends, compute)

    return keep
