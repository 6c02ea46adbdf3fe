"""A command as it is typed, and what it leaves on the terminal."""

from __future__ import annotations

import pytest

from shortcutscope.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main([str(a) for a in arguments])
    shown = capsys.readouterr()
    return int(leaving.value.code or 0), shown.out, shown.err
