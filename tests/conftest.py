from __future__ import annotations

import os
from pathlib import Path

# Tests run in processes beside each other, each with one thread; set before numpy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with pneumoniamnist.npz and mednist/: $SHORTCUTSCOPE_DATA, else ../shared/data."""
    given = os.environ.get("SHORTCUTSCOPE_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"no real data in {folder}; set SHORTCUTSCOPE_DATA to where pneumoniamnist.npz and mednist/ lie"
        )
    return folder
