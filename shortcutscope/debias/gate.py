"""Before a teacher teaches: does it use the shortcut itself, and at which layers may it be followed?"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from shortcutscope.audit.stages import audit
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.options import Running, Statistics
from shortcutscope.probes.concept import Concept
from shortcutscope.probes.usage import EFFECT_THRESHOLD
from shortcutscope.probes.verdict import VerdictRule, untestable
from shortcutscope.processes import alone
from shortcutscope.stats.testing import MIN_FOR_TAIL


@dataclass(frozen=True)
class TeacherGate:
    """What an audit of the teacher says of the shortcut.

    Attributes
    ----------
    frame
        One row per layer: layer, availability, use, use_low, use_high, passes.
    verdict
        The audit's verdict on the concept in the teacher.
    use
        Effect of the concept on the teacher's decision, in standard deviations of its logit.
    """

    frame: pd.DataFrame
    verdict: str
    use: float

    @property
    def passed(self) -> bool:
        """Whether there is a layer, or the output, at which the teacher may be followed."""
        return bool(self.frame["passes"].any())

    @property
    def reason(self) -> str:
        """In words."""
        used = self.frame.loc[~self.frame["passes"], "layer"].tolist()
        if not used:
            return f"the teacher does not use the shortcut ({self.verdict}, effect {self.use:+.2f})"
        where = "every layer" if not self.passed else f"{len(used)} of {len(self.frame)} layers"
        return (
            f"the teacher uses the shortcut at {where} (effect on its decision {self.use:+.2f} standard "
            f"deviations; at {', '.join(used[-3:])})"
        )

    def weigh(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Layer weights without the layers at which the teacher uses the shortcut, scaled to sum to 1."""
        passes = dict(zip(self.frame["layer"], self.frame["passes"], strict=True))
        passing = {name: weight for name, weight in weights.items() if weight > 0 and passes.get(name, True)}
        total = sum(passing.values())
        return {name: weight / total for name, weight in passing.items()}


def require_testable(data: ImageTable, concept: str | Concept) -> None:
    """Refuse samples on which no teacher could be judged; costs nothing, so that it comes before training.

    Raises
    ------
    InputError
        When too few samples carry the concept, do not carry it, or go against the label.
    """
    if isinstance(concept, str):
        return  # a column may give several concepts; the audit tells
    frame = data.frame
    values = concept.aligned_to(frame["sample_id"]).values
    reason = untestable(values, frame["label"].to_numpy(), frame["group"].to_numpy(), VerdictRule())
    if reason is not None:
        raise InputError(
            f"a teacher cannot be judged for {concept.name!r} on these {len(data)} held-out samples: "
            f"{reason}. Or leave them out; the teacher is not judged then"
        )


def gate(
    teacher: nn.Module,
    data: ImageTable,
    concept: str | Concept,
    *,
    n_permutations: int = MIN_FOR_TAIL,
    n_bootstrap: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> TeacherGate:
    """Audit a teacher for one concept.

    A layer does not pass when taking the concept out of it changes the teacher's logit by more than the
    audit's threshold of use, with the whole interval; one at which use was not measured goes by the nearest
    ones at which it was, before and after it. That it is encoded there does not matter: nearly every network
    encodes nearly every artifact.

    Parameters
    ----------
    teacher
        Given back as it was.
    data
        Held-out samples, none of which the teacher saw, with both values of the concept in every class.
    concept
        Column of the table, or values by sample id.
    n_permutations, n_bootstrap, seed, progress
        As in `shortcutscope.audit`.

    Raises
    ------
    InputError
        When the concept cannot be tested on these samples.
    """
    # Of processes that train together each has a folder of its own.
    with alone(), tempfile.TemporaryDirectory() as folder:
        audit_result = audit(
            teacher,
            data,
            Path(folder) / "teacher",
            concepts=[concept],
            discover=False,
            statistics=Statistics(n_permutations=n_permutations, n_bootstrap=n_bootstrap, seed=seed),
            running=Running(progress=progress),
        )
        (finding,) = audit_result.findings
        if finding.verdict == "not testable":
            raise InputError(f"the teacher cannot be judged on {finding.name!r}: {finding.reason}")
        profile = audit_result.profile
    return TeacherGate(_by_layer(profile), str(finding.verdict), float(finding.used.get("effect") or 0.0))


def _by_layer(profile: pd.DataFrame) -> pd.DataFrame:
    """Availability and use at each layer, and whether a student may learn from it."""
    low, high = profile["use_low"].to_numpy(float), profile["use_high"].to_numpy(float)
    limit = EFFECT_THRESHOLD["held-out"]
    used = np.nan_to_num(np.where(low > 0, low, np.where(high < 0, -high, 0.0))) > limit
    uses = pd.Series(used.astype(float)).where(profile["use"].notna().to_numpy())
    used = (uses.ffill().fillna(0) + uses.bfill().fillna(0)).to_numpy() > 0
    return pd.DataFrame(
        {
            "layer": profile["layer"].astype(str),
            "availability": profile["auroc"],
            "use": profile["use"],
            "use_low": low,
            "use_high": high,
            "passes": ~used,
        }
    ).reset_index(drop=True)
