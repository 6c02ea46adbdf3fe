"""From an audit to students and their comparison, as it is typed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from shortcutscope.audit.stages import audit
from shortcutscope.cli import main
from shortcutscope.cli.debiasing import _mending_of_both
from shortcutscope.debias.recipes import RECIPES
from shortcutscope.debias.training.classifier import train_classifier
from shortcutscope.facade import Comparison
from shortcutscope.options import Running, Statistics
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.study import MODEL, Study, write_study
from shortcutscope.planting.thin import thin_resnet18


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Files of a network that learnt a white tint, with clean and test images in manifests of their own."""
    pool = radiographs(460, size=32, seed=50, patients=False)
    tint, half = get_artifact("white_tint"), {0: 0.5, 1: 0.5}
    bounds = {"train": (0, 200), "clean": (200, 260), "val": (260, 380), "test": (380, 460)}
    parts = {
        name: plant(
            pool.take(np.arange(*rows)),
            tint,
            correlation=0.95,
            prevalence=None if name == "train" else half,
            seed=number,
        )
        for number, (name, rows) in enumerate(bounds.items())
    }
    model = train_classifier(thin_resnet18(seed=0), parts["train"], epochs=3, seed=0, progress=False)
    folder = tmp_path_factory.mktemp("study")
    return write_study(folder, model, parts, apart=("clean", "test"), progress=False)


@pytest.fixture(scope="module")
def run(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = thin_resnet18(seed=0)
    from safetensors.torch import load_file

    model.load_state_dict(load_file(study.weights))
    out = tmp_path_factory.mktemp("run") / "audit"
    audit(
        model.eval(),
        study.table(),
        out,
        concepts=["white_tint", "picture_contrast"],
        statistics=Statistics(n_permutations=50, n_bootstrap=30),
        running=Running(progress=False),
    )
    return out


def typed(*words: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    return int(leaving.value.code or 0)


def options(study: Study) -> list[object]:
    (mean,), (std,) = study.normalize.mean, study.normalize.std
    return ["--model", MODEL, "--weights", study.weights, "--mean", mean, "--std", std]


@pytest.fixture(scope="module")
def students(study: Study, run: Path) -> Path:
    folder = study.manifest.parent
    words = ["debias", run, *options(study), "--data", study.manifest, "--clean", folder / "clean.csv"]
    recipes = "logit-distillation,p-clarc"
    finding = ["--finding", "white_tint", "--held-out", study.manifest, "--test", folder / "test.csv"]
    code = typed(*words, *finding, "--recipe", recipes, "--epochs", 1, "--option", "on_shortcut=warn")
    assert code == 1  # P-ClArC takes no such option, which is said before anything is trained
    assert not (run / "students").exists()
    assert typed(*words, *finding, "--recipe", "p-clarc") == 0
    logit = ["--recipe", "logit-distillation", "--epochs", 1, "--option", "on_shortcut=warn"]
    assert typed(*words, *finding, *logit) == 0
    return run / "students"


def test_students_lie_in_the_run_with_what_they_were_made_of(students: Path) -> None:
    assert sorted(path.name for path in students.iterdir()) == ["logit-distillation", "p-clarc"]
    record = json.loads((students / "logit-distillation" / "metrics.json").read_text())
    assert (record["n_train"], record["n_clean"]) == (200, 60)
    assert record["options"] == {"on_shortcut": "warn"}
    assert (students / "p-clarc" / "edits.safetensors").exists()


def test_students_are_compared_and_reported(students: Path, study: Study, run: Path, capsys) -> None:
    test = study.manifest.parent / "test.csv"
    code = typed("compare", run, *options(study), "--data", test, "--finding", "white_tint")
    assert code == 0
    text = capsys.readouterr().out
    assert "changes are for the worse" in text
    assert (run / "comparison.html").exists()
    made = Comparison.open(run)
    assert [network["name"] for network in made.networks] == ["before", "logit-distillation", "p-clarc"]


def test_a_student_that_is_not_there_is_named(students: Path, study: Study, run: Path, capsys) -> None:
    test = study.manifest.parent / "test.csv"
    assert typed("compare", run, *options(study), "--data", test, "--students", "group-dro") == 1
    assert "no student 'group-dro'" in capsys.readouterr().err


def test_clean_samples_can_be_named_by_id(study: Study, run: Path, tmp_path: Path, capsys) -> None:
    frame = pd.read_csv(study.manifest)
    own = frame[frame["split"] == "train"].groupby(["label", "white_tint"]).head(5)
    own[["sample_id"]].to_csv(tmp_path / "ids.csv", index=False)
    words = ["debias", run, *options(study), "--data", study.manifest, "--clean", tmp_path / "ids.csv"]
    assert typed(*words, "--finding", "white_tint", "--recipe", "dfr") == 0
    assert "20 clean samples were taken out" in capsys.readouterr().out
    pd.DataFrame({"sample_id": ["nobody"]}).to_csv(tmp_path / "ids.csv", index=False)
    assert typed(*words, "--finding", "white_tint", "--recipe", "dfr") == 1
    assert "'nobody'" in capsys.readouterr().err


def test_carriers_among_the_training_images_can_be_retrieved(study: Study, run: Path, capsys) -> None:
    words = ["debias", run, *options(study), "--data", study.manifest, "--finding", "white_tint"]
    assert typed(*words, "--recipe", "group-balanced-ce", "--retrieved", "--epochs", 1) == 0
    record = json.loads((run / "students" / "group-balanced-ce" / "metrics.json").read_text())
    frame = pd.read_csv(study.manifest)
    train = frame[frame["split"] == "train"]
    truth = train.groupby(["label", "white_tint"]).size().to_numpy()
    assert np.abs(np.array(list(record["details"]["groups"].values())) - truth).max() <= 5


def test_two_findings_are_unlearnt_together(study: Study, run: Path, capsys) -> None:
    words = ["debias", run, *options(study), "--data", study.manifest, "--epochs", 1]
    both = ["--finding", "white_tint", "--finding", "picture_contrast high"]
    twins = ["--recipe", "counterfactual-augmentation"]
    assert typed(*words, *both, *twins) == 0
    record = json.loads(
        (run / "students" / "counterfactual-augmentation-2-findings" / "metrics.json").read_text()
    )
    assert (record["concept"], record["beside"]) == ("white_tint", ["picture_contrast high"])
    text = capsys.readouterr().out
    assert "whose original carried white_tint with" in text
    assert "whose original carried picture_contrast high with" in text


def test_what_took_the_place_of_a_finding_is_said_to_be_mended_with_it() -> None:
    audit = SimpleNamespace(findings=[SimpleNamespace(name=n) for n in ("grey high", "border!=0", "sex")])
    replacements = ({"concept": "border!=0"}, {"concept": "discovered 1 in the student"})
    comparison = SimpleNamespace(concept="grey high", replacements=replacements)
    assert _mending_of_both(audit, Path("run"), comparison) == (
        "to unlearn them together: shortcutscope pixels run 'border!=0'; shortcutscope debias run "
        "--finding 'grey high' --finding 'border!=0'"
    )
    assert _mending_of_both(audit, Path("run"), SimpleNamespace(concept="sex", replacements=())) is None
    found = SimpleNamespace(concept="tag", replacements=replacements)
    assert _mending_of_both(audit, Path("run"), found) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--finding", "white_tint", "--finding", "white_tint"], "'white_tint' is given twice"),
        (["--finding", "white_tint", "--finding", "nope"], "no finding 'nope'"),
        (["--recipe", "dfr"], "recipe 'dfr' unlearns one finding, and 2 were given (white_tint, picture_con"),
        (["--concept", "white_tint"], "give it for each, concept={'picture_contrast high': ...}"),
        (["--recipe", "group-balanced"], "no training sample is of the group 'label 0 with white_tint, "),
        ([], "'picture_contrast high' is no shortcut"),
        (["--recipe", "counterfactual-augmentation", "--option", "transfer=noise,noise"], "each once"),
    ],
)
def test_what_cannot_be_unlearnt_together_is_refused_before_training(
    study: Study, run: Path, capsys, words, said
) -> None:
    both = [] if "--finding" in words else ["--finding", "white_tint", "--finding", "picture_contrast high"]
    given = ["debias", run, *options(study), "--data", study.manifest, "--epochs", 10_000]
    assert typed(*given, *both, *words) == 1
    assert said in capsys.readouterr().err


def test_the_recipes_are_listed(study: Study, run: Path, capsys) -> None:
    assert typed("debias", run, "--model", MODEL, "--data", study.manifest, "--recipe", "list") == 0
    text = capsys.readouterr().out
    assert all(name[:12] in text for name in RECIPES)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--option", "temperature"], "name=value"), (["--recipe", "magic"], "no recipe 'magic'")],
)
def test_wrong_options_are_said(study: Study, run: Path, capsys, words, said) -> None:
    given = ["debias", run, *options(study), "--data", study.manifest, "--finding", "white_tint"]
    assert typed(*given, *words) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("retrieve", ["nope", "--csv", "hits.csv"], "no finding 'nope'"),
        ("annotate", ["nope"], "no finding 'nope'"),
        ("debias", ["--finding", "nope"], "no finding 'nope'"),
        ("debias", ["--finding", "nope", "--retrieved"], "no finding 'nope'"),
        ("debias", ["--finding", "white_tint", "--concept", "nope"], "no column 'nope'"),
        ("compare", ["--finding", "nope"], "no column 'nope'"),
    ],
)
def test_the_findings_there_are_answer_an_unknown_one(
    students: Path, study: Study, run: Path, capsys, command, words, said
) -> None:
    model = [] if command == "retrieve" else options(study)[:4]
    reading = options(study)[4:]
    capsys.readouterr()
    assert typed(command, run, *words, *model, *reading, "--data", study.manifest) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert said in text
    assert re.search(r"(there are|findings are) '?white_tint", text)


def test_amplify_draws_a_curve_or_says_which_group_is_too_small(
    study: Study, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["amplify", run, *options(study), "--data", study.manifest, "--finding", "white_tint"]
    few = ["--test", study.manifest.parent / "test.csv", "--epochs", "1", "--batch-size", "16"]
    assert typed(*words, *few) == 1
    assert "samples of class" in (error := capsys.readouterr().err)
    assert "Give more samples" in error
    assert typed(*words, *few, "--correlations", ".9,much") == 1
    assert "give shares from .5 to 1" in capsys.readouterr().err
    assert typed(*words, *few, "--correlations", ".9,1", "--lr", "1e-3") == 0
    assert "100% correlation" in capsys.readouterr().out
    assert (run / "amplification.json").exists()
    assert (run / "amplification.png").stat().st_size > 5000
