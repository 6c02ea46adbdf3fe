"""What a user meets first: the import, the version, the help; all of it before torch is loaded."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import shortcutscope as ss

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "torchvision", "sklearn", "scipy", "pandas", "matplotlib", "captum", "zennit", "timm")


def loaded_after(code: str) -> set[str]:
    """Heavy modules that are loaded after running code in a new interpreter."""
    check = f"{code}\nimport sys; print('loaded', *(m for m in {HEAVY!r} if m in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split()[1:])


def test_import_loads_nothing_heavy() -> None:
    assert loaded_after("import shortcutscope") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["audit", "--help"], ["bench", "--help"], ["--version"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "from shortcutscope.cli import main\n"
        f"try:\n    main({arguments!r})\n"
        "except SystemExit as leaving:\n    assert not leaving.code"
    )
    assert loaded_after(code) == set()


@pytest.mark.parametrize("name", [n for n in ss.__all__ if n != "__version__"])
def test_every_exported_name_is_there(name: str) -> None:
    assert getattr(ss, name).__name__ == name
    assert name in dir(ss)


def test_functions_are_not_hidden_by_the_modules_of_their_name() -> None:
    importlib.import_module("shortcutscope.audit")
    importlib.import_module("shortcutscope.scan.scanner")
    assert callable(ss.audit)


def test_modules_can_be_imported_under_another_name() -> None:
    import shortcutscope.scan.scanner as scanner

    assert callable(scanner.scan)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = ss.nothing_of_the_kind


def test_version_is_that_of_the_distribution_and_the_citation() -> None:
    assert importlib.metadata.version("shortcutscope") == ss.__version__
    assert f"version: {ss.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_ci_runs_the_command_that_the_readme_gives() -> None:
    command = 'pip install -e ".[dev]" && pytest'
    for file in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        assert command in (ROOT / file).read_text(), file


def test_every_requirement_has_a_tested_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert all(">=" in requirement for requirement in project["dependencies"])


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(ss.__file__).parent / "py.typed").exists()


def test_documented_thresholds_are_those_of_the_code() -> None:
    from shortcutscope.probes.cells import CELLS
    from shortcutscope.probes.extent import ExtentRule
    from shortcutscope.probes.usage import EFFECT_THRESHOLD
    from shortcutscope.probes.verdict import VerdictRule

    text = " ".join((ROOT / "docs" / "how_it_decides.md").read_text().split())
    extent, verdict = ExtentRule(), VerdictRule()
    for statement in (
        f"| held out | {EFFECT_THRESHOLD['held-out']:.2f} |",
        f"| the training images | {EFFECT_THRESHOLD['training']:.2f} |",
        f"is at least {extent.lit_above:.2f}",
        f"| up to {extent.localized_below:.2f} | localized |",
        f"| from {extent.diffuse_above:.2f} | diffuse |",
        f"AUROC below {extent.strong_above:.2f} leaves",
        f"divided into {' x '.join(map(str, CELLS[2]))} cells",
        f"≥ {verdict.smallest_phi:.2f} and q ≤ {verdict.level:.2f}".replace(" 0.", " ."),
        f"fewer than {verdict.smallest_side} samples or fewer than {verdict.smallest_groups} patients",
        f"at least {verdict.smallest_conflict} samples of both values",
    ):
        assert statement in text, statement
