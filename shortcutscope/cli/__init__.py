"""The command line.

Exit codes, so that an audit can gate a pipeline: 0 nothing found (and for commands that find nothing by
nature), 2 at least one shortcut found, 3 it could not be decided, 1 error, 130 interrupted. A command is
imported when it is called, and what is heavy inside of it: the help loads neither torch nor numpy, and that
of the commands together not even rich, which costs more than all else that it needs.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn

import typer

from shortcutscope._version import __version__
from shortcutscope.cli.running import (
    INTERRUPTED,
    FoundShortcutsError,
    NotDecidedError,
    ended_alike,
    guarded,
)
from shortcutscope.disk import explained
from shortcutscope.errors import InputError, ShortcutscopeError
from shortcutscope.processes import is_first, is_told_elsewhere, leave, started
from shortcutscope.registry import Entry, Registry

NOTHING_FOUND, FAILED, FOUND, NOT_DECIDED = 0, 1, 2, 3

#: Commands by name; those of the benchmarks, which nothing here knows, come as those of other packages do.
COMMANDS = Registry[Callable[..., None]](
    "command",
    "shortcutscope.commands",
    {
        "demo": Entry(
            "shortcutscope.cli.commands:demo",
            "Plant shortcuts in made-up radiographs, train, audit, draw masks, and unlearn one. "
            "No data needed.",
        ),
        "layers": Entry(
            "shortcutscope.cli.commands:layers", "List the layers of a model that an audit would scan."
        ),
        "audit": Entry(
            "shortcutscope.cli.auditing:audit",
            "Audit a trained model for shortcuts and write the report. "
            "Exit code 2: found some, 3: not decided.",
        ),
        "embeddings": Entry(
            "shortcutscope.cli.embeddings:embeddings",
            "Audit features of encoders for shortcuts, without images. "
            "Exit code 2: found some, 3: not decided.",
        ),
        "retrieve": Entry(
            "shortcutscope.cli.retrieval:retrieve",
            "Rank the samples that carry a finding, and take marks that were made elsewhere.",
        ),
        "annotate": Entry(
            "shortcutscope.cli.masking:annotate",
            "Draw a mask of a localized finding, or of what was boxed, on every image that carries it.",
        ),
        "export": Entry(
            "shortcutscope.cli.exporting:export",
            "Write a run's masks for other tools, in several formats at once.",
        ),
        "pixels": Entry(
            "shortcutscope.cli.pixels:pixels",
            "Take a finding out of the images and put it into others: does the output follow?",
        ),
        "debias": Entry(
            "shortcutscope.cli.debiasing:debias",
            "Retrain the audited model so that it does without a shortcut; the students are kept in the run.",
        ),
        "amplify": Entry(
            "shortcutscope.cli.amplifying:amplify",
            "Train at growing correlations of a shortcut with the label, and judge where it conflicts.",
        ),
        "compare": Entry(
            "shortcutscope.cli.debiasing:compare",
            "Compare the students of a run with the biased model: what got worse comes first.",
        ),
        "report": Entry("shortcutscope.cli.commands:report", "Write the report of a finished audit again."),
        "record": Entry(
            "shortcutscope.cli.recording:record",
            "Write what an audit found as a record for other tools: JUnit, CycloneDX, model cards, "
            "hazard lines.",
        ),
        "verify": Entry(
            "shortcutscope.cli.recording:verify",
            "Say whether a run is as its audit left it; exit code 1 where it is not.",
        ),
        "doctor": Entry(
            "shortcutscope.cli.commands:doctor",
            "Show versions, devices and which optional extras are installed.",
        ),
    },
    refuse=False,
)


def _command(name: str, given: Sequence[str]) -> Callable[..., None]:
    """A command; one of this package that is not called is only described, since the help shows no more."""
    entry = COMMANDS.entries[name]
    if name not in given and name in COMMANDS.built_in:

        def described() -> None:
            raise NotImplementedError

        described.__doc__ = entry.doc
        return described
    try:
        return COMMANDS[name]
    except InputError as error:
        reason = str(error)

    def broken() -> None:
        """Say why it cannot be loaded."""  # the others work
        raise InputError(reason)

    return broken


def _app(given: Sequence[str]) -> typer.Typer:
    """The commands, of which those are loaded that are among the arguments."""
    app = typer.Typer(
        name="shortcutscope",
        help="Find out whether a trained medical-image model leans on shortcuts, where, and what they cost.",
        epilog="Exit codes: 0 nothing found, 2 shortcuts found, 3 not decided, 1 error, 130 interrupted. "
        "Not for clinical use.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if set(given) - {"--help"} else None,
    )
    for name in COMMANDS:
        command, shown = _command(name, given), _epilog(name) if name in given else None
        # As a short one the text is wrapped, and not cut, where rich does not lay it out.
        app.command(name, short_help=command.__doc__, epilog=shown)(guarded(command))
    app.callback()(_options)
    return app


def _epilog(name: str) -> str | None:
    from shortcutscope.cli.examples import epilog

    return epilog(name)


def _completed() -> list[str]:
    """Words that a shell asks to complete, so that their command is loaded with its options."""
    asked = os.environ.get("_SHORTCUTSCOPE_COMPLETE")
    words = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return words.split() if asked else []


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"shortcutscope {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code.

    Parameters
    ----------
    args : sequence of str, optional
        Arguments without the program's name; those of the process by default.
    """
    given = list(sys.argv[1:] if args is None else args)
    try:
        with ended_alike():
            app = _app([*given, *_completed()])
            for clash in COMMANDS.clashes:
                typer.echo(f"left out: {clash}", err=True)
            app(given, prog_name="shortcutscope", obj=given)  # the run keeps the command that made it
    except KeyboardInterrupt:
        _interrupted(given)
    except FoundShortcutsError:
        _leave(FOUND)
    except NotDecidedError:
        _leave(NOT_DECIDED)
    except ShortcutscopeError as error:
        _fail(error, str(error))
    except OSError as error:
        _fail(error, explained(error))
    except MemoryError as error:
        _fail(
            error,
            f"this machine has too little memory ({error}): use a smaller --batch-size, or fewer samples",
        )
    except SystemExit as leaving:
        if leaving.code == INTERRUPTED:
            _interrupted(given)
        # The parser leaves with 2 for a wrong option, which here means that shortcuts were found.
        sys.exit(FAILED if leaving.code == FOUND else leaving.code)
    sys.exit(NOTHING_FOUND)


def _interrupted(given: Sequence[str]) -> NoReturn:
    if is_first():
        again = shlex.join(["shortcutscope", *given])
        typer.echo(f"interrupted; run the same command again to go on: {again}", err=True)
    sys.exit(INTERRUPTED)


def _leave(code: int) -> NoReturn:
    """Exit with what an audit found; of several processes, say what their launcher hides."""
    if started() > 1 and is_first():
        text = f"exit code {code}: the audit is finished; torchrun itself calls any code but 0 a failure"
        typer.echo(text, err=True)
    sys.exit(code)


def _fail(error: BaseException, text: str) -> NoReturn:
    if not is_told_elsewhere(error):
        from rich.console import Console

        console = Console(stderr=True)
        console.print(f"error: {text}", style="red", markup=False, highlight=False, soft_wrap=True)
    leave()  # before it is said, no process ends
    sys.exit(FAILED)
