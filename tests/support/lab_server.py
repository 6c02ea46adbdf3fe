"""A real JupyterLab that serves a folder, for tests in a browser."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """Write a notebook of code cells that were not run."""
    import nbformat  # takes seconds, wherever this file is collected

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


@contextlib.contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """The address under which notebooks of a folder are opened, as ``address + "lab/tree/name.ipynb"``.

    The page has ``jupyterapp``, by which commands are run.
    """
    settings = {
        "ip": "127.0.0.1", "port": "0", "IdentityProvider.token": "", "ServerApp.root_dir": str(folder),
        "LabApp.news_url": "", "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }  # fmt: skip
    flags = ["--no-browser", "--allow-root", "--log-level=INFO", "--expose-app-in-browser"]
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            *flags,
            *(f"--{name}={value}" for name, value in settings.items()),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = None
        assert server.stderr is not None
        while address is None and (line := server.stderr.readline()):
            address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address is not None, "JupyterLab did not start"
        yield address[0]
    finally:
        server.terminate()
        server.communicate(timeout=30)
