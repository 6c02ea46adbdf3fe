"""A run as tests: one a concept, passed, failed or skipped; the rule that JUnit's record and pytest share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shortcutscope.record.content import ConceptLine, RunContent


@dataclass(frozen=True)
class ConceptTest:
    """What a test says.

    Attributes
    ----------
    name
        The concept; ``audit`` for what could not be decided of the audit as a whole.
    state
        A shortcut fails, what could not be tested or decided is skipped, and the rest passes.
    message, detail
        Why; empty of what passes.
    properties
        Verdict and figures as text, for readers of test results.
    """

    name: str
    state: Literal["passed", "failed", "skipped"]
    message: str = ""
    detail: str = ""
    properties: tuple[tuple[str, str], ...] = ()


def outcomes(content: RunContent) -> tuple[ConceptTest, ...]:
    """The tests of a run: its concepts in their order, then what could not be decided."""
    undecided = content.undecided or (() if content.concepts else ("no concept was tested",))
    several = len(undecided) > 1
    return (
        *(_outcome(line) for line in content.concepts),
        *(
            ConceptTest(f"audit ({k})" if several else "audit", "skipped", text)
            for k, text in enumerate(undecided, 1)
        ),
    )


def _outcome(line: ConceptLine) -> ConceptTest:
    properties = _properties(line)
    if line.failed:
        return ConceptTest(line.name, "failed", line.sentence, line.reason, properties)
    if line.skipped:
        return ConceptTest(line.name, "skipped", line.reason, properties=properties)
    return ConceptTest(line.name, "passed", properties=properties)


def _properties(line: ConceptLine) -> tuple[tuple[str, str], ...]:
    properties = [("verdict", line.verdict)]
    for figure in line.figures:
        properties.append((figure.name, repr(figure.value)))
        if figure.low is not None:
            properties.append((f"{figure.name}_low", repr(figure.low)))
            properties.append((f"{figure.name}_high", repr(figure.high)))
    return tuple(properties)
