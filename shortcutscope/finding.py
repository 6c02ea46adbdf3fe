"""A finding: what the audit says of one concept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from shortcutscope.probes.extent import Extent
from shortcutscope.probes.verdict import Verdict


@dataclass(frozen=True)
class Finding:
    """The verdict on one concept, with everything it rests on.

    Attributes
    ----------
    name, origin, description : str
        The concept, and where it comes from (metadata, planted, marked, score, discovered).
    verdict, reason : str
        ``shortcut``, or what is missing for one.
    extent, extent_reason : str
        ``localized``, ``diffuse`` or ``undetermined``.
    extent_statistic, extent_interval : float, tuple
        Share of image cells in which the concept can be read, and its interval.
    layers : mapping
        Layer to weight for a later distillation, by use; sums to one.
    encoded, used, association, effect, n_samples, power, evidence, samples : mapping
        The measurements; the keys are those of ``findings.json``.
    notes : tuple of str
        What a reader should know besides.
    """

    name: str
    origin: str
    description: str
    verdict: Verdict
    reason: str
    extent: Extent = "undetermined"
    extent_reason: str = ""
    extent_statistic: float | None = None
    extent_interval: tuple[float, float] | None = None
    layers: Mapping[str, float] = field(default_factory=dict)
    encoded: Mapping[str, Any] = field(default_factory=dict)
    used: Mapping[str, Any] = field(default_factory=dict)
    association: Mapping[str, Any] = field(default_factory=dict)
    effect: Mapping[str, Any] = field(default_factory=dict)
    n_samples: Mapping[str, int] = field(default_factory=dict)
    power: Mapping[str, float] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        """AUROC points lost where the concept disagrees with the label; what findings are ranked by."""
        value = self.effect.get("auroc_gap", {}).get("value")
        return float("-inf") if value is None or value != value else float(value)

    def to_dict(self) -> dict[str, Any]:
        """The finding as it stands in ``findings.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Finding:
        """Read a finding from ``findings.json``; keys of later versions are left out."""
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in values.items() if k in known}
        for key in ("extent_interval", "notes"):
            if kept.get(key) is not None:
                kept[key] = tuple(kept[key])
        return cls(**kept)

    def __repr__(self) -> str:
        return f"Finding({self.name!r}: {self.verdict}, {self.extent})"
