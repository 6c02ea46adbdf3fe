"""Which recipe to use, why, and what to expect of it, from what is at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from shortcutscope.debias.groups import group_by
from shortcutscope.debias.needs import NEEDS, lacking
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.errors import InputError
from shortcutscope.pixels.of_findings import confirmed_transfer

if TYPE_CHECKING:
    from shortcutscope.audit.finding import FindingRecord

#: Verdicts of what may be worth unlearning.
USED = ("shortcut", "used on the pixels, a picture property", "used on the pixels")
#: With fewer clean samples than this, more of them would help most.
FEW_CLEAN = 100


@dataclass(frozen=True)
class Recommendation:
    """A recipe and its reasons.

    Attributes
    ----------
    recipe
        Its name.
    options
        That differ from the recipe's own.
    why
        Why for this data: what is at hand, in words.
    rests_on
        What was measured elsewhere of it, in the project's benchmark: on other data, and no promise for
        these.
    undefined
        Recipe -> what it would need that is not there.
    """

    recipe: str
    options: Mapping[str, object] = field(default_factory=dict)
    why: str = ""
    rests_on: str = ""
    undefined: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join((f"{self.recipe} is recommended.", *self.reasons))

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why for this data, and apart from that what it rests on."""
        elsewhere = f"What it rests on, measured on other data and not on yours: {self.rests_on}."
        return (f"Why for this data: {self.why}.", *((elsewhere,) if self.rests_on else ()))

    def to_dict(self) -> dict[str, str]:
        """Both reasons, for the record."""
        return {"recipe": self.recipe, "why_for_this_data": self.why, "rests_on": self.rests_on}


def recommend(problem: DebiasProblem, *findings: FindingRecord | None) -> Recommendation:
    """Choose among the recipes whose needs are met.

    Parameters
    ----------
    problem
        What is at hand: clean samples, concept labels, masks, layers.
    *findings
        What the audit says of the shortcut, or of all that are unlearnt together.

    Raises
    ------
    InputError
        When the audit does not call it a shortcut, or nothing is at hand that a recipe could use.
    """
    for one in findings:
        if one is not None and one.verdict not in USED:
            raise InputError(
                f"{one.name!r} is no shortcut ({one.verdict}: {one.reason}); nothing is recommended. "
                "Test it on the pixels (finding.intervene, shortcutscope pixels), or name a recipe, if it is "
                "to be unlearnt all the same"
            )
    finding = findings[0] if findings else None
    undefined = {
        name: "; ".join(NEEDS[need] for need in missing)
        for name, recipe in RECIPES.items()
        if (missing := lacking(recipe, problem))
    }
    if problem.beside:
        return _of_several(problem, findings, undefined)
    extent = f"{finding.extent} " if finding is not None and finding.extent != "undetermined" else ""
    n_clean = 0 if problem.clean is None else len(problem.clean)
    rare = _conflicting(problem)
    if n_clean:
        return _with_clean(problem, n_clean, rare, extent, undefined)
    transfer = confirmed_transfer(finding)
    if transfer is not None:
        why = (
            "the test on the pixels changed it in whole images, and the output followed: so every image can "
            "be given that of another; no clean samples are needed"
        )
        # Where it is known who carries it, that is taken of whose twins least is left of it.
        options = {} if problem.carries is not None else {"transfer": transfer}
        return Recommendation("counterfactual-augmentation", options, why, _EXPECTS["twins"], undefined)
    if "group-balanced" not in undefined:
        why = f"there is no clean sample, but {rare} samples are known to go against the {extent}shortcut"
        return Recommendation("group-balanced", {}, why, _EXPECTS["groups"], undefined)
    if "artifact-augmentation" not in undefined:
        why = "there are masks of the artifact, and neither clean samples nor conflicting ones"
        return Recommendation("artifact-augmentation", {}, why, _EXPECTS["masks"], undefined)
    raise InputError(
        "nothing can be recommended without "
        + ", ".join(NEEDS[need] for need in ("clean", "groups", "masks"))
        + "; or test the finding on the pixels first (finding.intervene, shortcutscope pixels): what moves "
        "the output there can be given to all images"
    )


def _of_several(
    problem: DebiasProblem, findings: Sequence[FindingRecord | None], undefined: Mapping[str, str]
) -> Recommendation:
    """What is recommended for findings that are unlearnt together; clean samples are not asked for."""
    if any(confirmed_transfer(finding) for finding in findings):
        why = (
            "the output followed a change of whole images on the pixels: so every image can be given such a "
            f"property of another for each of {len(problem.names)} findings; no clean samples are needed"
        )
        return Recommendation("counterfactual-augmentation", {}, why, _EXPECTS["twins"], undefined)
    if "group-balanced" not in undefined:
        why = f"every group of label and {len(problem.names)} findings has samples that can be weighed"
        return Recommendation("group-balanced", {}, why, _EXPECTS["groups"], undefined)
    raise InputError(
        f"nothing can be recommended for {len(problem.names)} findings together: no test on the pixels moved "
        "one of them (finding.intervene, shortcutscope pixels), and groups of label and all findings are "
        "empty. Give one finding"
    )


def _with_clean(
    problem: DebiasProblem, n_clean: int, rare: int, extent: str, undefined: Mapping[str, str]
) -> Recommendation:
    """What is recommended where there are clean samples."""
    few = " (few: more of them would help most)" if n_clean < FEW_CLEAN else ""
    amount = f"{n_clean} clean samples{few}"
    if "balanced-finetune" not in undefined:
        why = (
            f"{amount} to fine-tune on, and {rare} samples that go against the {extent}shortcut are known "
            "and can be weighed: no teacher is needed"
        )
        return Recommendation("balanced-finetune", {}, why, _EXPECTS["balanced"], undefined)
    gone = (
        "no training sample goes against the shortcut, so that recipes by group are not defined and "
        "where the teacher begins is chosen on the clean samples"
        if problem.carries is not None
        else "nobody knows which training samples carry the shortcut"
    )
    why = f"{amount} make a teacher; {gone}"
    return Recommendation("clean-distillation", {}, why, _EXPECTS["clean"], undefined)


def _conflicting(problem: DebiasProblem) -> int:
    """Samples of the smaller of the two concept values in every class."""
    if problem.carries is None:
        return 0
    counts = group_by(problem.train.frame["label"].to_numpy(), problem.carries).counts
    return int(np.minimum(counts[::2], counts[1::2]).sum())


_WHERE = (
    "of the gap in robust AUROC to a network trained without the correlation, in the project's benchmark "
    "(thin networks, 95 % correlation, new weights where a recipe does not begin from the model)"
)
_EXPECTS = {
    "balanced": f"it closed 97 % {_WHERE}, with 160 clean samples beside 1,440, and 91 % with 32",
    "clean": f"it closed 96 % {_WHERE}, with 160 clean samples beside 1,440, and 82 % with 32",
    "groups": f"it closed 92 % {_WHERE}",
    "twins": (
        "on 1,000 chest films, of which a network used the exposure, it brought the predictions that differ "
        "between all dark and all bright from 47 % to 10 %"
    ),
    "masks": f"with exact masks it closed 98 % {_WHERE}",
}
