from __future__ import annotations

import functools
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
SHARED = ("annotation_fixtures", "finished_runs", "third_party")


def pytest_configure(config: pytest.Config) -> None:
    """Shared fixtures where tests are run: the process that only hands them out need not import torch."""
    hands_out = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    for name in () if hands_out else SHARED:
        config.pluginmanager.import_plugin(name)


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
LONG = (
    "test_notebooks.py",
    "test_real_input.py",
    "test_demo.py",
    "test_cli.py",
    "test_debiasing.py",
    "test_examples.py",
)
#: Folders and files of a few CPU seconds and more, by ``--durations``; whatever is not here is of `-m quick`.
NOT_QUICK = (
    "audit/test_beside.py",
    "audit/interventions/test_rerun.py",
    "benchmarks/suites/test_audit.py",
    "benchmarks/suites/test_device.py",
    "data/decoding/test_loading.py",
    "device/test_own_process.py",
    "attribution/lrp/test_architectures.py",
    "attribution/lrp/test_conditional.py",
    "attribution/lrp/test_rules.py",
    "attribution/lrp/test_untouched.py",
    "attribution/lrp/test_zennit.py",
    "audit/test_audit_in_processes.py",
    "audit/test_decoding.py",
    "audit/test_heads.py",
    "audit/test_measured.py",
    "audit/test_outputs.py",
    "audit/test_run_safety.py",
    "audit/test_signals_and_volumes.py",
    "audit/preprocessing",
    "audit/test_stages.py",
    "audit/test_texts.py",
    "benchmarks",
    "cli/test_cli.py",
    "cli/test_config.py",
    "cli/test_debiasing.py",
    "cli/test_demo.py",
    "cli/test_origin.py",
    "cli/test_paths.py",
    "cli/test_several_labels.py",
    "compare/test_before_after.py",
    "compare/test_development.py",
    "compare/test_replacements.py",
    "contracts/test_recipes.py",
    "data/medical/test_chexpert.py",
    "data/test_transform.py",
    "debias/baselines/test_counterfactual.py",
    "debias/baselines/test_reweighing.py",
    "debias/test_unlearn.py",
    "debias/training/test_fit.py",
    "debias/training/test_training_processes.py",
    "device",
    "discover/test_embedding.py",
    "discover/test_metadata.py",
    "discover/test_proposals.py",
    "discover/test_prototypes.py",
    "fuzz",
    "masks/boxed/test_annotating.py",
    "masks/patches/test_detector.py",
    "masks/test_annotation.py",
    "masks/test_masks_of_words.py",
    "masks/test_volumes.py",
    "models/sources",
    "models/test_frozen.py",
    "models/test_layers.py",
    "performance",
    "pixels/test_intervening.py",
    "pixels/test_of_findings.py",
    "planting/phantoms",
    "probes/test_cells.py",
    "report",
    "retrieval/test_detection.py",
    "retrieval/test_search.py",
    "retrieval/test_signals.py",
    "scan/test_capture.py",
    "scan/test_lrp_scan.py",
    "scan/test_scanner.py",
    "test_examples.py",
    "test_notebooks.py",
    "test_processes.py",
    "test_real_input.py",
)


@functools.cache
def takes_long(path: Path) -> bool:
    """Whether a file is, or lies in, one of those that are not quick."""
    long = {Path(__file__).parent / name for name in NOT_QUICK}
    return path in long or any(folder in long for folder in path.parents)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``-m quick`` does not even import what takes long."""
    return True if config.getoption("markexpr") == "quick" and takes_long(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, within a file nothing changes; and which tests are quick."""
    items.sort(key=lambda item: item.path.name not in LONG)
    for item in items:
        marked = any(item.get_closest_marker(name) for name in ("slow", "gpu"))
        if not marked and not takes_long(item.path):
            item.add_marker("quick")
