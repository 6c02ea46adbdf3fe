"""The suite of wrong labels: what it lists, what it makes of a folder of classes, how it sums up."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shortcutscope.benchmarks.runner import Settings
from shortcutscope.benchmarks.suites import wrong_labels
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import CATALOGUE


def settings(cache: Path, data: Path | None = None, quick: bool = False) -> Settings:
    return Settings(quick=quick, seed=0, data=data, cache=cache, jobs=1)


@pytest.fixture
def classes(tmp_path, monkeypatch) -> Path:
    """Two classes of forty pictures, dark and bright, in a folder like MedNIST's."""
    monkeypatch.setattr(wrong_labels, "CLASSES", ("Hand", "CXR"))
    monkeypatch.setattr(wrong_labels, "N_TRAIN", 50)
    monkeypatch.setattr(wrong_labels, "N_HELD_OUT", 30)
    generator = np.random.default_rng(0)
    for name, level in (("Hand", 60), ("CXR", 160)):
        folder = tmp_path / "mednist" / name
        folder.mkdir(parents=True)
        for k in range(45):
            pixels = np.clip(generator.normal(level, 20, (48, 48)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{k:03d}.jpeg")
    return tmp_path


def test_ten_networks_have_wrong_labels_and_every_kind_is_planted_with_right_ones(tmp_path):
    listed = wrong_labels.cases(settings(tmp_path))
    assert [c["group"] for c in listed].count("wrong") == 10
    assert {c["planted"] for c in listed if c["group"] == "right"} == set(CATALOGUE)
    assert len({c["seed"] for c in listed}) == len(listed)
    assert len(wrong_labels.cases(settings(tmp_path, quick=True))) < len(listed)


def test_eight_per_cent_of_the_labels_are_turned_and_the_right_ones_are_kept(classes):
    table = wrong_labels._two_classes(settings(classes, classes), ("Hand", "CXR"), 3)
    turned = wrong_labels._relabelled(table, np.random.default_rng(3)).frame
    assert len(table) == 80
    assert (turned["disease"] == table.frame["label"]).all()
    assert (turned["disease"] != turned["label"]).sum() == round(0.08 * 80)
    bright = [float(table.image(i).mean()) for i in range(len(table))]
    assert np.corrcoef(bright, turned["disease"])[0, 1] > 0.9


def test_no_folder_of_classes_or_a_small_one_is_refused(classes, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--data"):
        wrong_labels._two_classes(settings(tmp_path), ("Hand", "CXR"), 0)
    monkeypatch.setattr(wrong_labels, "N_TRAIN", 500)
    with pytest.raises(InputError, match="45 images; 265 are needed"):
        wrong_labels._two_classes(settings(tmp_path, classes), ("Hand", "CXR"), 0)


def test_the_summary_counts_networks_and_artifacts():
    finished = [
        {"group": "wrong", "disease": [wrong_labels.LABEL_WORD], "artifact": ["shortcut"]},
        {"group": "wrong", "disease": ["shortcut", "not encoded"], "artifact": []},
        {"group": "wrong", "disease": [], "artifact": ["encoded, not used"]},
        {"group": "right", "planted": "tag", "artifact": ["shortcut"]},
        {"group": "right", "planted": "blur", "artifact": [wrong_labels.LABEL_WORD]},
        {"group": "right", "planted": "frame", "artifact": []},
    ]
    summary = wrong_labels.summarize(finished)
    assert summary["wrong"] == {
        "networks": 3,
        "disease_proposed": 2,
        "disease_called_shortcut": 1,
        "check_labels_first": 1,
        "artifacts_proposed": 2,
        "artifacts_called_shortcut": 1,
    }
    assert summary["right"] == {
        "networks": 3,
        "proposed": 2,
        "called_shortcut": 1,
        "lost_its_word": ["blur"],
    }


@pytest.mark.slow
def test_a_network_is_made_and_audited(classes):
    case = wrong_labels.cases(settings(classes, classes))[2]
    assert set(wrong_labels.run_case(case, settings(classes, classes))) >= {"classes", "disease", "artifact"}
