"""Real radiographs, from a folder and a manifest through the command line, as a user has them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shortcutscope.benchmarks.real import StudySize, planted_study, require_data, site_study
from shortcutscope.cli import main
from shortcutscope.errors import InputError
from shortcutscope.facade import Audit
from shortcutscope.planting.study import MODEL, Study

SIZE = StudySize(train=800, held_out=400, site=400, site_held_out=120, epochs=5, site_epochs=6)


def find_data() -> Path | None:
    """Folder of the real data sets: the one that the environment names, or ../shared/data."""
    named = os.environ.get("SHORTCUTSCOPE_DATA")
    candidate = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    return candidate if (candidate / "pneumoniamnist.npz").exists() else None


DATA = find_data()
needs_data = pytest.mark.skipif(
    DATA is None or not (DATA / "mednist" / "CXR").is_dir(),
    reason="no real radiographs: set SHORTCUTSCOPE_DATA to a folder with pneumoniamnist.npz and mednist/CXR",
)


def audited(study: Study, out: Path, *options: str) -> tuple[int, Audit]:
    """Exit code and audit of the command that the study says audits it."""
    return audited_manifest(study.manifest, study, out, "--no-discover", *options)


def audited_manifest(manifest: Path, study: Study, out: Path, *options: str) -> tuple[int, Audit]:
    """Exit code and audit of other images by the study's model."""
    words = ["audit", MODEL, str(manifest), "--weights", str(study.weights), "--out", str(out)]
    with pytest.raises(SystemExit) as leaving:
        main(
            [*words, "--mean", "0.45", "--std", "0.25", "--permutations", "60", "--bootstrap", "40", *options]
        )
    return int(leaving.value.code or 0), Audit.open(out)


@needs_data
def test_planted_tag_in_real_radiographs(tmp_path: Path) -> None:
    assert DATA is not None
    study = planted_study("tag", DATA, tmp_path, size=SIZE, cache=tmp_path / "cache", progress=False)
    code, audit = audited(study, tmp_path / "run")
    assert code == 2
    assert (audit["tag"].verdict, audit["tag"].extent) == ("shortcut", "localized")
    assert audit["coin"].verdict != "shortcut"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Study:
    assert DATA is not None
    return site_study(DATA, tmp_path_factory.mktemp("site"), size=SIZE, progress=False)


@pytest.mark.slow
@needs_data
def test_natural_site_shortcut_with_either_site_named(site: Study, tmp_path: Path) -> None:
    code, audit = audited(site, tmp_path / "run")
    assert code == 2
    for name in ("site_children", "site_adults"):
        assert (audit[name].verdict, audit[name].extent) == ("shortcut", "diffuse")
    assert audit["site_children"].extent_statistic == audit["site_adults"].extent_statistic
    assert audit["coin"].verdict != "shortcut"


@needs_data
@pytest.mark.slow
def test_natural_site_shortcut_is_discovered_without_its_column(site: Study, tmp_path: Path) -> None:
    """In held-out images that were drawn as the training images were.

    Children and adults differ in shape and in texture, as two diseases may: without the column nothing tells
    where images come from and what the label should say apart, and the audit names the samples to read.
    """
    frame = pd.read_csv(site.manifest)
    drawn = as_in_training(frame[frame["split"] == "test"])
    truth = drawn.set_index("sample_id")["site_children"]
    unnamed = site.manifest.with_name("unnamed.csv")
    drawn.drop(columns=["site_children", "site_adults"]).to_csv(unnamed, index=False)
    code, audit = audited_manifest(unnamed, site, tmp_path / "unnamed")
    assert code == 3
    first = audit.findings[0]
    said = ("discovered", "encoded and used, may be the label", "diffuse")
    assert (first.origin, first.verdict, first.extent) == said
    values = pd.Series(first.concept.values, first.concept.sample_ids).dropna()
    assert (values == truth[values.index]).mean() > 0.95
    assert len(values) > 0.9 * len(truth)
    kind = first.evidence["kind_of_image"]
    assert kind["is_another"]
    assert min(kind["shape"], kind["texture"]) > 0.8
    assert first.reason.startswith("check these labels first")
    assert "or where images come from" in first.reason
    label = drawn.set_index("sample_id")["label"]
    against = set(label.index[label != truth])
    named = set(first.samples["doubtful_label"])
    assert len(named & against) > 0.9 * len(against)
    assert len(named) < 1.2 * len(against)
    # These labels are right: whoever read them names where the images come from.
    column = site.manifest.with_name("named.csv")
    drawn.to_csv(column, index=False)
    words = ("--concepts", "site_children", "--no-measure")
    code, audit = audited_manifest(column, site, tmp_path / "named", *words)
    assert (code, audit["site_children"].verdict) == (2, "shortcut")


def as_in_training(frame: pd.DataFrame, rare: float = 0.05) -> pd.DataFrame:
    """One orientation of every image: mirrored ones of children and others of adults, but for a few."""
    kept = []
    for site, own in frame.groupby("site_children"):
        patients = sorted(own["group"].unique())
        conflicting = set(patients[: round(rare * len(patients))])
        agrees = own["label"] == site
        kept.append(own[agrees != own["group"].isin(conflicting)])
    return pd.concat(kept)


@needs_data
def test_site_study_is_built_as_it_says(tmp_path: Path) -> None:
    assert DATA is not None
    size = StudySize(site=40, site_held_out=10, site_epochs=1)
    frame = pd.read_csv(site_study(DATA, tmp_path, size=size, progress=False).manifest)
    counts = frame.groupby(["split", "label", "site_children"]).size()
    assert counts["train"].tolist() == [38, 2, 2, 38]
    assert counts["test"].tolist() == [10, 10, 10, 10]
    assert not set(frame.loc[frame["split"] == "train", "group"]) & set(
        frame.loc[frame["split"] == "test", "group"]
    )
    assert np.array_equal(frame["site_adults"], 1 - frame["site_children"])
    both = frame[frame["split"] == "test"].groupby("group")["label"].agg(["min", "max", "size"])
    assert both.drop_duplicates().to_numpy().tolist() == [[0, 1, 2]]


def test_missing_data_is_said_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "pneumoniamnist.npz"))):
        require_data(tmp_path)
