"""MLflow and Weights & Biases are told what they take, by the calls that they document."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

import shortcutscope as ss
from shortcutscope.errors import InputError
from shortcutscope.tracking.figures import figures_of, words_of


@pytest.fixture
def audit(run_dir):
    audit = ss.Audit.open(run_dir)
    audit.report()
    return audit


def test_mlflow(audit, monkeypatch):
    calls = []
    names = ("log_metrics", "set_tags", "log_artifact")
    mlflow = SimpleNamespace(**{n: lambda *a, n=n, **k: calls.append((n, a, k)) for n in names})
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    ss.log_mlflow(audit, step=3)
    assert calls[0] == ("log_metrics", (figures_of(audit),), {"step": 3})
    assert calls[1] == ("set_tags", (words_of(audit),), {})
    files = [arguments for name, arguments, _ in calls if name == "log_artifact"]
    assert (str(audit.path / "report.html"), "shortcuts") in files


class Artifact:
    def __init__(self, name, type):
        self.name, self.type, self.files = name, type, []

    def add_file(self, path):
        self.files.append(path)


def wandb_run():
    run = SimpleNamespace(id="r1", summary={}, logged=[], artifacts=[])
    run.log = lambda values, step=None: run.logged.append((values, step))
    run.log_artifact = run.artifacts.append
    return run


def test_wandb(audit, monkeypatch):
    run = wandb_run()
    tables = []
    wandb = SimpleNamespace(
        run=run,
        Table=lambda dataframe: tables.append(dataframe),
        Html=lambda text, inject: text,
        Artifact=Artifact,
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    ss.log_wandb(audit)
    [(values, step)] = run.logged
    assert figures_of(audit).items() <= values.items()
    assert step is None
    assert "<html" in values["shortcuts/report"]
    assert list(tables[0]["finding"]) == [f.name for f in audit]
    assert run.summary["shortcuts.tag"] == "shortcut"
    assert run.artifacts[0].type == "shortcut-audit"
    wandb.run = None
    with pytest.raises(InputError, match=r"wandb.init\(\)"):
        ss.log_wandb(audit)
    ss.log_wandb(audit, run=run)


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_what_is_not_installed_is_named(audit, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"pip install {name}"):
        getattr(ss, f"log_{name}")(audit)
