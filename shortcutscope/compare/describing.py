"""What a comparison says of its networks and tables beside the metrics: verdicts, layers, sizes of groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import nn

from shortcutscope.compare.performance import ComparedSamples
from shortcutscope.compare.setup import ComparisonSetup
from shortcutscope.compare.space import Space
from shortcutscope.models.loading import model_fingerprint
from shortcutscope.probes.verdict import CONCERN

__all__ = ["describe_network", "describe_table", "verdict_rows"]

#: Verdicts that say that the output follows the concept, the graver one first.
GRAVE = CONCERN[: CONCERN.index("encoded, not used")]


def verdict_rows(name: str, table: str, space: Space, first: Space) -> Iterator[dict[str, Any]]:
    """The verdict on every concept; worse where the output follows it now and did not before."""
    nan = float("nan")
    for finding in space.audit.findings:
        old, new = first.audit.finding(finding.name).verdict, finding.verdict
        tested = "not testable" not in (old, new)
        gravity = [GRAVE.index(v) if v in GRAVE else len(GRAVE) for v in (old, new)]
        better = None if not tested or gravity[0] == gravity[1] else gravity[1] > gravity[0]
        row = dict.fromkeys(("value", "low", "high", "change", "change_low", "change_high"), nan)
        note = new if old == new or space is first else f"{old} → {new}"
        yield {
            "network": name, "table": table, "metric": "verdict", **row, "better": better,
            "part": "verdict", "detail": finding.name, "note": note,
        }  # fmt: skip


def describe_network(
    name: str, network: nn.Module, question: ComparisonSetup, space: Space | None, renamed: Mapping[str, str]
) -> dict[str, Any]:
    """What is known of a network: its weights, its layers, the verdict on the concept."""
    finding = None if space is None else space.audit.finding(question.name)
    layers = [] if space is None else list(zip(space.layers, space.depths, strict=True))
    return {
        "name": name,
        "class": type(network).__qualname__,
        "fingerprint": model_fingerprint(network),
        "parameters": sum(p.numel() for p in network.parameters()),
        "verdict": None if finding is None else finding.verdict,
        "reason": None if finding is None else finding.reason,
        "extent": None if finding is None else finding.extent,
        "layers": [{"name": n, "depth": d, "before": renamed.get(n)} for n, d in layers],
    }


def describe_table(samples: ComparedSamples) -> dict[str, Any]:
    """Sizes of a table and of its groups of label and concept."""
    cells = {
        f"{samples.class_name(int(y))}, {'with' if t else 'without'} {samples.concept}": int(
            ((samples.labels == y) & (samples.carries == t)).sum()
        )
        for y in np.unique(samples.labels)
        for t in (0, 1)
    }
    return {
        "name": samples.name,
        "n_samples": len(samples.labels),
        "n_groups": len(np.unique(samples.groups)),
        "unknown": int(np.isnan(samples.carries).sum()),
        "groups": cells,
    }
