"""Registries list without importing, name what is wrong, and take what other packages add."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from third_party import REGISTRIES, distribution

import shortcutscope as ss
from shortcutscope.attribution.methods import METHODS
from shortcutscope.cli import COMMANDS
from shortcutscope.cli.debiasing import print_recipes
from shortcutscope.data.medical import DATASETS
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.discover.views import VIEWS, ViewInput, view_scores
from shortcutscope.errors import InputError
from shortcutscope.masks.formats import FORMATS
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.models.loading import has_random_weights
from shortcutscope.models.sources import SOURCES
from shortcutscope.registry import Entry, Registry


def make() -> Registry[object]:
    return Registry[object](
        "colour",
        "shortcutscope.test_colours",
        {
            "red": Entry(0xFF0000, "as blood"),
            "pi": Entry("math:pi"),
            "lost": Entry("no_module:x"),
        },
    )


def test_names_are_listed_without_an_import():
    colours = make()
    assert list(colours) == ["red", "pi", "lost"]
    assert (len(colours), "lost" in colours, "blue" in colours) == (3, True, False)
    assert repr(colours) == "Registry('colour': red, pi, lost)"
    assert colours.entries["red"].doc == "as blood"


def test_things_are_given_or_found_where_they_are():
    colours = make()
    assert colours["red"] == 0xFF0000
    assert colours["pi"] == pytest.approx(np.pi)
    things = colours.items()
    assert [next(things)[0], next(things)[0]] == ["red", "pi"]
    with pytest.raises(ImportError, match="no_module"):
        next(things)


def test_an_unknown_name_is_told_what_is_allowed():
    with pytest.raises(InputError, match="there is no colour 'blue'; allowed are red, pi, lost"):
        make()["blue"]


def test_a_name_that_there_is_already_is_refused_with_the_package(third_party):
    colours = make()
    third_party(colours, "BLUE", name="red")
    with pytest.raises(InputError, match="third-party-kit adds a colour called 'red'"):
        list(colours)


@pytest.mark.parametrize(("target", "text"), [("BLUE", "BLUE"), ("GREEN", "no_such_module")])
def test_a_broken_package_is_named_and_stops_nothing_else(third_party, target, text):
    colours = make()
    third_party(colours, target, "import no_such_module" if target == "GREEN" else "")
    assert list(colours)[-1] == "thirdparty"
    assert colours["red"] == 0xFF0000
    with pytest.raises(InputError, match=rf"'thirdparty' \(of third-party-kit\) cannot be loaded.*{text}"):
        colours["thirdparty"]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda one: one.group)
def test_every_registry_takes_what_another_package_adds(registry, third_party):
    before = list(registry)
    third_party(registry, "THING", "THING = object()")
    assert sorted(registry) == sorted([*before, "thirdparty"])
    assert registry.entries["thirdparty"].doc == "of third-party-kit"
    from third_party_kit import THING

    assert registry["thirdparty"] is THING


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda one: one.group)
def test_everything_of_this_package_is_described_and_there(registry):
    assert len({one.group for one in REGISTRIES}) == len({one.kind for one in REGISTRIES}) == len(REGISTRIES)
    for name, thing in registry.items():
        assert thing is not None
        assert registry.entries[name].doc, name


def test_masks_are_exported_in_another_packages_format(third_party, tmp_path):
    third_party(
        FORMATS,
        "FORMAT",
        """
        from shortcutscope.masks.formats import MaskFormat

        def write(masks, path, *, sep):
            path.write_text(sep.join(masks.sample_ids))
            return path

        FORMAT = MaskFormat(write, None)
        """,
    )
    with MaskWriter(tmp_path / "m", "tag") as writer:
        for name in ("a", "b"):
            writer.append(name, np.eye(4, dtype=bool))
    path = MaskSet.open(tmp_path / "m").export(tmp_path / "out.txt", format="thirdparty", sep=";")
    assert path.read_text() == "a;b"


def test_another_packages_data_set_is_opened(third_party, tmp_path):
    third_party(
        DATASETS,
        "scans",
        """
        import numpy as np
        import pandas as pd

        from shortcutscope.data.table import ImageTable

        def scans(root, *, count=3, **options):
            frame = pd.DataFrame({"sample_id": [f"{root}-{i}" for i in range(count)], "label": 0})
            return ImageTable.from_arrays(np.zeros((count, 1, 4, 4), np.float32), frame)
        """,
    )
    assert len(ss.open_dataset("thirdparty", "x", count=5)) == 5
    with pytest.raises(InputError, match="thirdparty has no option 'colour'; it has count"):
        ss.open_dataset("thirdparty", "x", colour=1)


def test_another_packages_models_are_loaded(third_party):
    third_party(
        SOURCES,
        "SOURCE",
        """
        from torch import nn

        from shortcutscope.models.sources import ModelSource

        def factory(name):
            return lambda pretrained=False, num_classes=2: nn.Linear(len(name), num_classes, bias=pretrained)

        SOURCE = ModelSource(factory, lambda weights: {"pretrained": True})
        """,
    )
    model = ss.load_model("thirdparty:abc", num_classes=4)
    assert (model.in_features, model.out_features, model.bias) == (3, 4, None)
    assert has_random_weights(model)
    assert ss.load_model("thirdparty:abc", "DEFAULT").bias is not None


def test_another_packages_recipe_makes_a_student(third_party):
    third_party(
        RECIPES,
        "RECIPE",
        """
        import copy

        from shortcutscope.debias.problem import Outcome
        from shortcutscope.debias.recipes import Recipe

        def run(problem, *, gain=1.0):
            return Outcome(copy.deepcopy(problem.model), notes=(f"gain {gain}",))

        RECIPE = Recipe("thirdparty", "the model itself", "nobody", run, trains=False)
        """,
    )
    console = Console(record=True, width=200, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    print_recipes(console)
    assert "thirdparty" in console.export_text()
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)).numpy()
    frame = pd.DataFrame({"sample_id": list("abcdefgh"), "label": [0, 1] * 4})
    table = ss.ImageTable.from_arrays(images, frame, value_range=(0, 1))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    student = ss.debias(model, table, recipe="thirdparty", gain=2.0, running=ss.Running(progress=False))
    assert student.recipe == "thirdparty"
    assert any("gain 2.0" in note for note in student.notes)
    with pytest.raises(InputError, match="recipe 'thirdparty' takes no option 'loss'; it takes gain"):
        ss.debias(model, table, recipe="thirdparty", loss=2.0, running=ss.Running(progress=False))


def test_another_packages_method_attributes(third_party):
    third_party(
        METHODS,
        "Ones",
        """
        from dataclasses import dataclass

        import torch

        from shortcutscope.attribution.gradient import Explanation, Method

        @dataclass(frozen=True)
        class Ones(Method):
            value: float = 1.0

            def explain(self, model, x, explained, layer):
                score, target = explained.scores(model(x))
                return Explanation(torch.full_like(x, self.value), score.detach(), target)
        """,
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = ss.attribute(model, x, method="thirdparty", value=2.0, check=False)
    assert found.method == "thirdparty"
    assert (found.relevance == 2).all()


def test_another_packages_view_is_looked_at_last(third_party, monkeypatch):
    third_party(VIEWS, "view", "def view(seen):\n    yield 'thirdparty: all', seen.early")
    monkeypatch.setattr(VIEWS, "built_in", {})
    assert list(view_scores(ViewInput(None, "early", None, []))) == [("thirdparty: all", "early")]


def run_beside(folder, *command):
    """End of a command line of this package with what is installed in a folder."""
    around = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    words = [sys.executable, "-m", "shortcutscope", *command]
    return subprocess.run(words, env=around, capture_output=True, text=True, timeout=300, check=False)


def test_another_packages_command_is_listed_and_runs(tmp_path):
    code = "def greet():\n    '''Greet.'''\n    print('good morning')"
    distribution(tmp_path, COMMANDS.group, "third_party_kit:greet", code, name="greet")
    done = run_beside(tmp_path, "greet")
    assert done.returncode == 0, done.stderr
    assert "good morning" in done.stdout


@pytest.mark.parametrize("name", ["doctor", "bench"])
def test_a_command_of_a_name_that_there_is_already_is_left_out(tmp_path, name):
    code = "def other():\n    '''Stand in.'''\n    print('not what was asked for')"
    distribution(tmp_path, COMMANDS.group, "third_party_kit:other", code, name=name)
    done = run_beside(tmp_path, name, "--help")
    assert done.returncode == 0, done.stderr
    assert "Stand in" not in done.stdout
    assert done.stderr.splitlines() == [
        f"left out: third-party-kit adds a command called {name!r}, which there is already; "
        "it has to take another name, or be uninstalled"
    ]


@pytest.mark.parametrize(("command", "code"), [("greet", 1), ("--version", 0)])
def test_a_package_that_cannot_be_loaded_breaks_its_own_command_alone(tmp_path, command, code):
    broken = "import a_module_that_is_not_there"
    distribution(tmp_path, COMMANDS.group, "third_party_kit:greet", broken, name="greet")
    done = run_beside(tmp_path, command)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert ("cannot be loaded" in done.stderr) == (code == 1)
