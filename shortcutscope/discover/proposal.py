"""A proposal: a shortcut that nobody named, how it was judged, and the concept it is audited as."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from shortcutscope.discover.candidates import ShortcutCandidate, family
from shortcutscope.probes.concept import Concept
from shortcutscope.types import Bools, Floats, Record

_NAME = re.compile(r"\bdiscovered \d+\b")


@dataclass(frozen=True, eq=False)
class Proposal:
    """A shortcut proposed without anybody's mark.

    Attributes
    ----------
    name
        Unique among the proposals of a scan.
    candidate
        Its score, read from other patients' samples, and how it was judged.
    views
        All views that found the same samples, its own first.
    concept
        Carriers, non-carriers and unknown, each sample's value read from other patients; None where the
        proposal was dropped. Where it was told among some samples alone, the others are unknown.
    dropped
        Why it is not proposed after all; empty if it is.
    """

    name: str
    candidate: ShortcutCandidate
    views: tuple[str, ...]
    concept: Concept | None = None
    dropped: str = ""

    @property
    def label(self) -> int:
        """The class that carriers are taken for more."""
        return self.candidate.label

    @property
    def scores(self) -> Floats:
        """(N,) larger for carriers, in the order of the scan's samples."""
        return self.candidate.scores

    @property
    def seeds(self) -> Bools:
        """(N,) the carriers, before the doubtful are set apart."""
        return self.candidate.carriers

    @property
    def families(self) -> tuple[str, ...]:
        """Kinds of views that found it, such as ``("filters", "relevance")``."""
        return tuple(dict.fromkeys(family(view) for view in self.views))

    @property
    def strength(self) -> float:
        """What proposals are ranked by: the candidate's strength times the families of views that agree."""
        return self.candidate.strength * len(self.families)

    @property
    def shares(self) -> Mapping[int, float]:
        """Share of carriers in each class, of the samples in which it was told."""
        return self.candidate.shares

    def renamed(self, names: Mapping[str, str]) -> Proposal:
        """Under another name, also where its views, its concept and its reason name proposals."""

        def anew(text: str) -> str:
            return _NAME.sub(lambda match: names.get(match[0], match[0]), text)

        concept = self.concept
        if concept is not None:
            concept = replace(concept, name=anew(concept.name), description=anew(concept.description))
        return replace(
            self,
            name=anew(self.name),
            views=tuple(anew(view) for view in self.views),
            concept=concept,
            dropped=anew(self.dropped),
        )

    def to_dict(self) -> Record:
        """What a run keeps of it besides the values of its concept."""
        c = self.candidate
        return {
            "name": self.name,
            "views": list(self.views),
            "label": self.label,
            "strength": self.strength,
            "separation": c.separation,
            "gain": c.gain,
            "logit_gap": c.gap,
            "t": c.t,
            "phi": c.phi,
            "shares": {str(label): share for label, share in self.shares.items()},
            "dropped": self.dropped,
        }

    def __repr__(self) -> str:
        shares = ", ".join(f"{share:.0%} of class {label}" for label, share in self.shares.items())
        return f"Proposal({self.name!r}, {self.views[0]}: {shares}; strength {self.strength:.2f})"


def proposal_name(number: int) -> str:
    """What a proposal is called.

    Examples
    --------
    >>> proposal_name(1)
    'discovered 1'
    """
    return f"discovered {number}"


def numbered(proposals: Iterable[Proposal], first: int = 1) -> dict[str, str]:
    """Names to names with consecutive numbers, in the order of the proposals; twins have none."""
    names = [proposal.name for proposal in proposals if proposal.name]
    return {name: proposal_name(number) for number, name in enumerate(names, first)}
