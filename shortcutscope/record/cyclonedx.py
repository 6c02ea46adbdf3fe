"""A run as a CycloneDX bill of materials: the model as a component, with the model card of the standard."""

from __future__ import annotations

import json
import uuid

from shortcutscope.record.content import RunContent, RunFigure
from shortcutscope.types import Record

_SOURCE = "shortcutscope"


def cyclonedx(content: RunContent) -> str:
    """Write CycloneDX 1.6 JSON: figures by slice with their intervals, limitations, and shortcuts as risks.

    References
    ----------
    Ecma International 2024, ECMA-424, CycloneDX Bill of Materials Specification.
    """
    figures = [*content.figures, *(figure for line in content.concepts for figure in line.figures)]
    seed = "/".join(filter(None, (content.fingerprint, content.digest, content.created)))
    facts = {
        "fingerprint": content.fingerprint,
        "run": content.digest,
        "created": content.created,
        "samples": str(content.samples),
        "patients": None if content.patients is None else str(content.patients),
    }
    component: Record = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": content.model,
        "modelCard": {
            "modelParameters": {"task": "classification", "inputs": [{"format": "image"}]},
            "quantitativeAnalysis": {"performanceMetrics": [_metric(figure) for figure in figures]},
            "considerations": {
                "technicalLimitations": [content.headline, *content.advice, *content.limitations],
                "ethicalConsiderations": [
                    {"name": f"{line.name}: {line.cause}", "mitigationStrategy": line.control}
                    for line in content.concepts
                    if line.failed
                ],
            },
            "properties": [
                *({"name": f"{_SOURCE}:{name}", "value": value} for name, value in facts.items() if value),
                *(
                    {"name": f"{_SOURCE}:verdict:{line.name}", "value": line.verdict}
                    for line in content.concepts
                ),
            ],
        },
    }
    bill: Record = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, seed)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": _SOURCE, "version": content.version}]}
        },
        "components": [component],
    }
    return json.dumps(bill, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _metric(figure: RunFigure) -> Record:
    entry: Record = {"type": figure.name, "value": repr(figure.value)}
    if figure.part is not None:
        entry["slice"] = figure.part
    if figure.low is not None and figure.high is not None:
        entry["confidenceInterval"] = {"lowerBound": repr(figure.low), "upperBound": repr(figure.high)}
    return entry
