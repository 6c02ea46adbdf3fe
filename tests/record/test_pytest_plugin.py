"""``pytest --shortcuts RUN`` says of each concept what JUnit's record says of it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import small_study

import shortcutscope as ss
from shortcutscope.audit.seal import FILE
from shortcutscope.disk import checksum
from shortcutscope.facade import Audit  # before pytest runs within pytest, which forgets what it loads

pytest_plugins = ["pytester"]
GROUP = importlib.metadata.entry_points(group="pytest11")
PLUGIN = "shortcutscope" if "shortcutscope" in GROUP.names else "shortcutscope.record.pytest_plugin"
USAGE = (pytest.ExitCode.USAGE_ERROR, {})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a test of its own and an audit: a shortcut, a coin, and what is not testable."""
    folder = tmp_path_factory.mktemp("project")
    small_study.audit(folder / "run")
    (folder / "test_own.py").write_text("def test_own():\n    pass\n")
    return folder


@pytest.fixture
def project(made, pytester):
    """A copy that a test may change, and where pytest runs."""
    shutil.copytree(made, pytester.path, dirs_exist_ok=True)
    return pytester


def run_pytest(project, *words):
    """Exit code, output and the results by name, of pytest within this process."""
    ran = project.runpytest_inprocess("-p", PLUGIN, "-n0", "-ra", "--junitxml=results.xml", *words)
    return ran.ret, ran.stdout.str() + ran.stderr.str(), states(project.path / "results.xml")


def run_in_processes(folder, *words):
    """The same in processes of its own."""
    package = str(Path(ss.__file__).parents[1])
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "--junitxml=results.xml", *words],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr, states(folder / "results.xml")


def states(file):
    """Name to passed, failure or skipped, and the verdict, of a file in JUnit's format."""
    if not file.is_file():
        return {}
    cases = list(ElementTree.parse(file).iter("testcase"))
    read = {}
    for case in cases:
        verdict = case.find("properties/property[@name='verdict']")
        state = next((c.tag for c in case if c.tag in ("failure", "skipped", "error")), "passed")
        read[case.get("name")] = (state, None if verdict is None else verdict.get("value"))
    return read


def test_concepts_pass_fail_and_are_skipped_as_junit_has_them(project):
    code, text, results = run_pytest(project, "--shortcuts", "run")
    Audit.open("run").record("junit", "record.xml")
    assert results.pop("test_own") == ("passed", None)
    assert results == states(project.path / "record.xml")
    assert results["tag"] == ("failure", "shortcut")
    assert results["twin"] == ("skipped", "not testable")
    assert code == 1
    assert "The model leans on tag" in text
    assert "samples" in text.split("SKIPPED")[1]
    assert f"collected {len(results) + 1} items" in text


@pytest.mark.slow
def test_processes_of_xdist_share_the_concepts(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    code, text, results = run_in_processes(tmp_path, "--shortcuts", "run", "-n2")
    assert code == 1, text
    assert {name: results[name][0] for name in ("test_own", "tag", "twin")} == {
        "test_own": "passed", "tag": "failure", "twin": "skipped"
    }  # fmt: skip


def test_a_marker_chooses_the_concepts(project):
    code, _, results = run_pytest(project, "--shortcuts", "run", "-m", "shortcuts", "-k", "not tag")
    assert code == 0
    assert set(results) >= {"coin", "twin"}
    assert not {"tag", "test_own"} & set(results)


def test_a_missing_or_changed_run_is_an_error_with_the_mend(project):
    code, text, results = run_pytest(project, "--shortcuts", "runs/nothing")
    assert (code, results) == USAGE
    assert "no finished run directory" in text
    digest = checksum(project.path / "run" / FILE)
    with (project.path / "run" / "findings.json").open("a") as file:
        file.write(" ")
    code, text, results = run_pytest(project, "--shortcuts", "run")
    assert (code, results) == USAGE
    assert "findings.json: it was changed since: run the same audit again" in text
    assert "Traceback" not in text
    twice = ("--shortcuts", "run", "--shortcuts", "run", "--shortcuts-sha256", digest)
    assert "give a digest for each run" in run_pytest(project, *twice)[1]


def test_nothing_is_loaded_without_the_option(tmp_path):
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_own():\n"
        "    assert sys.modules['shortcutscope.record.pytest_plugin']\n"
        "    assert {m for m in sys.modules if m.startswith('shortcutscope.')} <= {\n"
        "        'shortcutscope._version', 'shortcutscope.record', 'shortcutscope.record.pytest_plugin'}\n"
        "    assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)\n"
    )
    code, text, _ = run_in_processes(tmp_path, "-n0")
    assert code == 0, text
