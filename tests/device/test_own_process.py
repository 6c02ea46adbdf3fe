"""The tests of this folder run in a process of their own, which has a pretended device, see tests/support.

To run them by hand: ``SHORTCUTSCOPE_PRETEND_DEVICE=1 pytest -n 0 tests/device``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

NEEDS = "_setup_privateuseone_for_python_backend"


@pytest.mark.parametrize("chosen", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_on_the_device(chosen: str) -> None:
    if not hasattr(backend_registration, NEEDS):
        pytest.skip("this torch takes no device that is written in Python")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", "-m", chosen]
    run = subprocess.run(
        [*command, str(Path(__file__).parent)],
        env={**os.environ, "SHORTCUTSCOPE_PRETEND_DEVICE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
