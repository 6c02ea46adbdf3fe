"""What a protocol is: the cases of a paper's experiment, and its claims beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from shortcutscope.benchmarks.runner import Case, Settings, Suite, run
from shortcutscope.files import to_json, write_atomically, write_json
from shortcutscope.types import Record

__all__ = ["NOT_FOUND", "Claim", "Protocol", "reproduce"]

#: For a figure of a paper that could not be had.
NOT_FOUND = "not found"


@dataclass(frozen=True)
class Claim:
    """Something a paper says, beside what was measured here.

    Attributes
    ----------
    what
        The claim, in a line.
    published
        The paper's figures and where they stand, or `NOT_FOUND`.
    here
        What was measured.
    holds
        Whether it holds here; None where it was not measured.
    """

    what: str
    published: str
    here: str
    holds: bool | None


@dataclass(frozen=True)
class Protocol:
    """An experiment of a paper.

    Attributes
    ----------
    suite
        Its cases, how one is run, how they sum up and are drawn; the suite's name is the protocol's.
    paper
        Authors, year, title, where it was published.
    data
        What runs without data, and what ``--data`` has to hold.
    claims
        From the finished cases to the paper's claims.
    check
        Refuses a folder that does not hold the data, before anything is run.
    """

    suite: Suite
    paper: str
    data: str
    claims: Callable[[Sequence[Case]], list[Claim]]
    check: Callable[[Path], None]


def reproduce(protocol: Protocol, settings: Settings, out: Path, *, console: Console | None = None) -> Record:
    """Run a protocol, or finish one that was interrupted, and write what came out.

    Parameters
    ----------
    protocol
        What to run.
    settings
        How; `data` is the folder of the paper's data, None runs on phantoms.
    out
        Folder for ``result.json`` (every case, the summary and the claims) and ``figure.png``.
    console
        Where to show progress and claims; standard output by default.

    Raises
    ------
    InputError
        When the folder does not hold the data.
    """
    if settings.data is not None:
        protocol.check(settings.data)
    console = console or Console()
    result = run(protocol.suite, settings, console=console)
    ran = [case for case in result["cases"] if case["error"] is None]
    claims = protocol.claims(ran) if ran else []
    result |= {"paper": protocol.paper, "claims": to_json([asdict(claim) for claim in claims])}
    write_json(out / "result.json", result)
    if ran and protocol.suite.draw is not None:
        figure = protocol.suite.draw(ran)
        write_atomically(out / "figure.png", lambda file: figure.savefig(file, format="png", dpi=150))
    _print(console, protocol, claims)
    return result


def _print(console: Console, protocol: Protocol, claims: Sequence[Claim]) -> None:
    table = Table(title=protocol.paper, title_justify="left")
    for column in ("claim", "published", "here", "holds"):
        table.add_column(column, overflow="fold")
    for claim in claims:
        holds = {True: "yes", False: "no", None: "not measured"}[claim.holds]
        table.add_row(claim.what, claim.published, claim.here, holds)
    console.print(table)
