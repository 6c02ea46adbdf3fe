from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Tests run in processes beside each other, each with one thread; set before numpy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Else hypothesis loads it within a test, deep in its stack, where Python 3.11 fails to compile it.
import hypothesis.internal.conjecture.optimiser  # noqa: F401
import pytest
from hypothesis import HealthCheck, settings

# A busy machine draws slowly, which is no defect of a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


#: Fixtures that several rooms share, in tests/support.
pytest_plugins = ["annotation_fixtures", "third_party"]


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


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A browser for all tests of a process: playwright refuses to be started twice in one thread."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


#: Files that take minutes: begun first, so that no process waits for the last of them at the end.
LONG = ("test_notebooks.py", "test_real_input.py", "test_demo.py", "test_cli.py", "test_debiasing.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; within a file nothing changes."""
    items.sort(key=lambda item: item.path.name not in LONG)
