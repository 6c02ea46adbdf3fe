"""``pytest --shortcuts RUN``: the concepts of a finished audit as tests, beside a project's own.

Nothing else of this package is loaded unless the option is given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from shortcutscope.record.outcomes import ConceptTest

MARKER = "shortcuts"


@dataclass(frozen=True)
class AuditedRun:
    """A run as it was given, and its tests."""

    path: str
    tests: tuple[ConceptTest, ...]


_RUNS = pytest.StashKey[tuple[AuditedRun, ...]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("shortcuts", "shortcuts that an audit found")
    group.addoption(
        "--shortcuts",
        action="append",
        default=[],
        metavar="RUN",
        help="run directory of an audit: a test a concept; a shortcut fails; again for each",
    )
    group.addoption(
        "--shortcuts-sha256",
        action="append",
        default=[],
        metavar="DIGEST",
        help="digest of the SHA256SUMS of each run, as a record has it, so that a run made anew is refused",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Read the runs; one that is missing or was changed ends the session before any test."""
    given, digests = config.getoption("--shortcuts"), config.getoption("--shortcuts-sha256")
    if digests and len(digests) != len(given):
        raise pytest.UsageError(
            f"{len(given)} --shortcuts and {len(digests)} --shortcuts-sha256: give a digest for each run"
        )
    if given:
        config.addinivalue_line("markers", f"{MARKER}: concepts of an audit, by --shortcuts RUN")
        of_each = digests or [None] * len(given)
        # Processes of xdist read what the first process has verified.
        verified = not hasattr(config, "workerinput")
        config.stash[_RUNS] = tuple(
            _read(path, digest, verified) for path, digest in zip(given, of_each, strict=True)
        )


def _read(path: str, digest: str | None, verified: bool) -> AuditedRun:
    from shortcutscope.audit.record import AuditRecord
    from shortcutscope.audit.seal import changed_files
    from shortcutscope.errors import InputError
    from shortcutscope.record.content import content_of
    from shortcutscope.record.outcomes import outcomes

    try:
        audit = AuditRecord.open(path)
        changed = changed_files(Path(path), digest) if verified else []
    except InputError as error:
        raise pytest.UsageError(f"--shortcuts {path}: {error}") from error
    if changed:
        listed = "\n  ".join(changed)
        raise pytest.UsageError(f"--shortcuts {path}: it is not as its audit left it:\n  {listed}")
    return AuditedRun(path, outcomes(content_of(audit)))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Collect the runs after all else that the session collects."""
    report = yield
    if isinstance(collector, pytest.Session) and report.passed:
        runs = collector.config.stash.get(_RUNS, ())
        report.result = [*report.result, *(RunCollector.of(collector, run) for run in runs)]
    return report


class RunCollector(pytest.Collector):
    """A run, whose concepts are tests."""

    def __init__(self, *, tests: tuple[ConceptTest, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tests = tests

    @classmethod
    def of(cls, session: pytest.Session, run: AuditedRun) -> RunCollector:
        """The collector of a run."""
        path = Path(run.path).absolute()
        collector: RunCollector = cls.from_parent(
            session, name=run.path, nodeid=run.path, path=path, tests=run.tests
        )
        return collector

    def collect(self) -> Iterator[pytest.Item]:
        """A test a concept."""
        for test in self.tests:
            yield ConceptItem.from_parent(self, name=_printable(test.name), test=test)


class ShortcutFoundError(Exception):
    """A concept is a shortcut of the audited network."""


class ConceptItem(pytest.Item):
    """A concept of an audit."""

    def __init__(self, *, test: ConceptTest, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.test = test
        self.user_properties.extend(test.properties)
        self.add_marker(MARKER)

    def runtest(self) -> None:
        """Fail, skip or pass, as the audit has it."""
        if self.test.state == "failed":
            raise ShortcutFoundError(self.test.message)
        if self.test.state == "skipped":
            pytest.skip(_printable(self.test.message))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Words and figures in place of a traceback."""
        if not isinstance(excinfo.value, ShortcutFoundError):
            return super().repr_failure(excinfo, style)
        figures = [f"  {name}: {value}" for name, value in self.test.properties]
        return "\n".join(map(_printable, filter(None, (self.test.message, self.test.detail, *figures))))

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it comes from."""
        return self.path, None, self.name


def _printable(text: str) -> str:
    """Other people's names as text that a terminal and another process can take."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
