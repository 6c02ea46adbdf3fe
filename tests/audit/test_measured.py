"""Columns that nobody typed, in an audit: found when planted, left alone when not, and never in the way."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_study
from counting import counting, decoded
from PIL import Image

import shortcutscope as ss
from shortcutscope.audit.audited_data import TrainingData, audited_data
from shortcutscope.audit.discovery import MOST_COLUMNS, screened_columns
from shortcutscope.audit.measured import MOST_MEASURED, measured_data, screened_measured
from shortcutscope.data.manifests.columns import Roles
from shortcutscope.data.properties.names import measured_source
from shortcutscope.data.unread import unread_table
from shortcutscope.errors import InputError
from shortcutscope.scan.scanner import scan

QUIET = ss.Running(progress=False, workers=0)
FAST = ss.Statistics(n_permutations=50, n_bootstrap=40)


def pictures(labels, plant=None, seed=0, side=32):
    """Grey noise, of which `plant` changes some that agree with the label in 9 of 10, and which these are."""
    rng = np.random.default_rng([seed, 5])
    carries = np.where(rng.random(len(labels)) < 0.9, labels, 1 - labels)
    images = np.clip(rng.normal(0.5, 0.12, (len(labels), side, side)), 0, 1)
    if plant is not None:
        images[carries == 1] = plant(images[carries == 1])
    return images, carries


def screened(images, labels, seed=0, **columns):
    table = ss.ImageTable.from_arrays(images, pd.DataFrame({"label": labels, **columns})).measured(QUIET)
    return screened_measured(audited_data(table, TrainingData()), seed=seed)


def framed(images):
    images = images.copy()
    images[:, :3] = 0
    return images


@pytest.mark.parametrize(
    ("column", "plant"),
    [
        ("picture_mean_grey", lambda x: x**0.8),
        ("picture_border", framed),
    ],
)
def test_what_was_planted_in_the_picture_comes_first(column, plant):
    labels = np.arange(120) % 2
    chosen, _, screen = screened(pictures(labels, plant)[0], labels)
    assert chosen[0] == screen.columns["column"][0] == column


def test_what_was_planted_in_the_file_comes_first(tmp_path):
    labels = np.arange(120) % 2
    images, carries = pictures(labels)
    names = [f"{k}.jpg" for k in range(len(labels))]
    for name, image, one in zip(names, images, carries.tolist(), strict=True):
        picture = Image.fromarray((255 * image).astype(np.uint8))
        picture.crop((0, 0, 32 - 4 * one, 32)).save(tmp_path / name, quality=90 - 5 * one)
    frame = pd.DataFrame({"image": names, "label": labels})
    table = ss.ImageTable.from_frame(frame, root=tmp_path, size=32).measured(QUIET)
    chosen, refused, screen = screened_measured(audited_data(table, TrainingData()), seed=0)
    assert {"file_jpeg_quality", "file_aspect", "file_width"} == set(screen.columns["column"][:3])
    assert len(chosen) <= MOST_MEASURED
    assert not set(refused) & set(chosen)
    assert "jpg" not in json.dumps(screen.to_dict())


def test_nothing_is_accused_where_nothing_was_planted():
    labels = np.arange(120) % 2
    accused = [bool(screened(pictures(labels, seed=seed)[0], labels, seed)[0]) for seed in range(10)]
    assert sum(accused) <= 1


def test_columns_of_the_user_are_screened_as_ever():
    labels = np.arange(120) % 2
    rng = np.random.default_rng(0)
    columns = {f"c{k:02d}": rng.integers(0, 3, 120) for k in range(25)}
    images, _ = pictures(labels, lambda x: x**0.8)
    bare = ss.ImageTable.from_arrays(images, pd.DataFrame({"label": labels, **columns}))
    data = audited_data(bare.measured(QUIET), TrainingData())
    chosen, refused, _ = screened_columns(data, seed=0)
    assert (chosen, refused) == screened_columns(audited_data(bare, TrainingData()), seed=0)[:2]
    assert len(chosen) == MOST_COLUMNS
    assert screened_measured(data, seed=0)[0][0] == "picture_mean_grey"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    small_study.write_files(folder, 120, n_train=60)
    return folder


def opened(folder):
    return ss.ImageTable.from_csv(folder / "images.csv")


def of_audit(folder, train=None):
    data = audited_data(opened(folder), TrainingData.of(train))
    return data, data.table.measured(QUIET)


def test_the_training_images_are_measured_for_the_association(folder, monkeypatch):
    data, table = of_audit(folder)
    both = measured_data(data, table, seed=0, running=QUIET)
    assert both.reference.frame["picture_noise"].notna().all()
    assert both.assumptions == data.assumptions
    monkeypatch.setattr("shortcutscope.audit.measured.MOST_TRAINING", 20)
    some = measured_data(data, table, seed=0, running=QUIET)
    assert some.reference.frame["picture_noise"].notna().sum() == 20
    assert "of the 60 training images 20, drawn at random" in some.assumptions[-1]


def test_training_images_that_are_not_read_alike_are_left_out_and_it_is_said(folder):
    data, table = of_audit(folder)
    train = data.reference
    names_alone = unread_table(folder / "images.csv", image="image", roles=Roles("label"))
    absent = names_alone.take(names_alone.frame["split"].to_numpy() == "train")
    other_size = ss.ImageTable.from_csv(folder / "images.csv", size=16).take(np.arange(60))
    assert len(train) == len(absent) == len(other_size)
    for reference in (absent, other_size):
        lacking = audited_data(data.table, TrainingData(reference))
        result = measured_data(lacking, table, seed=0, running=QUIET)
        assert not any(measured_source(c) for c in result.reference.frame)
        assert "is that in the audited data" in result.assumptions[-1]


@pytest.fixture(scope="module")
def audited(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("audit") / "run"
    log = out.parent / "decoded.log"
    table = counting(opened(folder), log)
    audit = ss.audit(small_study.tag_reader(), table, out, discover=False, statistics=FAST, running=QUIET)
    return audit, decoded(log)


def test_an_audit_measures_and_tests_them_unasked(audited):
    audit, _ = audited
    grey = audit["picture_mean_grey high"]
    assert grey.origin == "picture"
    assert grey.association["source"] == "training split"
    assert grey.reading.cuts is not None
    assert grey.description.startswith("mean grey value inside the rim; 1: picture_mean_grey >= ")
    assert {"tag", "coin"} <= {f.name for f in audit.findings}
    assert "picture_noise" in {row["column"] for row in audit.run["measured"]["columns"]}
    assert {"picture_mean_grey", "file_codec"} <= set(audit.scan.samples)


def test_each_image_is_decoded_once_all_the_same(audited):
    assert set(audited[1].values()) == {1}


def test_no_file_is_named_in_the_run(audited, folder):
    path = audited[0].path
    names = [Path(name).name for name in pd.read_csv(folder / "images.csv")["image"]]
    for file in path.rglob("*.json"):
        assert not any(name in file.read_text() for name in names), file


def test_they_can_be_named_and_left_out(folder, audited, tmp_path):
    model, table = small_study.tag_reader(), opened(folder)
    options = {"statistics": FAST, "running": QUIET}
    named = ss.audit(model, table, tmp_path / "a", concepts=["picture_mean_grey", "tag"], **options)
    assert {f.name for f in named.findings} == {"picture_mean_grey high", "tag"}
    known = audited[0]["picture_mean_grey high"].concept.values
    np.testing.assert_array_equal(named["picture_mean_grey high"].concept.values, known)
    off = ss.Scanning(measure=False)
    without = ss.audit(model, table, tmp_path / "b", discover=False, scanning=off, **options)
    assert not any(f.origin in ("file", "picture") for f in without.findings)
    assert "measured" not in without.run
    with pytest.raises(InputError, match="no column 'picture_mean_grey'"):
        ss.audit(model, table, tmp_path / "c", concepts=["picture_mean_grey"], scanning=off, **options)
    with pytest.raises(InputError, match=r"measure=False\): a scan does not read it"):
        scan(model, table, tmp_path / "d", scanning=off, running=QUIET)
