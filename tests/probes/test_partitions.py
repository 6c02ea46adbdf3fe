"""Columns that say what another one says."""

import numpy as np
import pandas as pd
import pytest

from shortcutscope.audit.audited_data import ConceptRequest, TrainingData, audited_data, resolve_concepts
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.probes.partitions import is_the_label

N = 60


def audited(classes=("normal", "pneumonia"), **columns):
    frame = pd.DataFrame({"label": np.arange(N) % 2, **columns})
    table = ImageTable.from_arrays(np.zeros((N, 8, 8), np.float32), frame, classes=classes)
    return audited_data(table, TrainingData())


def test_columns_that_part_the_samples_alike_are_tested_once():
    rgb = (np.arange(N) % 3 == 0).astype(int)
    data = audited(
        mode=np.where(rgb, "RGB", "L"), rgb=rgb, width=np.where(rgb, 512, 1024), coin=np.arange(N) // 2 % 2
    )
    concepts, refused = resolve_concepts(data, ConceptRequest())
    assert [c.name for c in concepts] == ["rgb", "coin"]  # of rgb it is known which value is present
    assert concepts[0].same == ("mode=RGB", "width=1024")
    assert "mode=RGB, width=1024 (the other way round)" in concepts[0].notes[0]
    assert refused == {}


def test_the_label_over_again_is_no_concept():
    label = np.arange(N) % 2
    names = np.array(["Normal", "Pneumonia"])[label]
    data = audited(
        label_name=names,
        finding=names,
        target=label,
        pneumonia=label,
        tag=label,
        site=np.array(["A", "B"])[label],
    )
    concepts, refused = resolve_concepts(data, ConceptRequest())
    assert sorted(refused) == ["finding", "label_name", "pneumonia", "target"]
    assert "in the names of the classes" in refused["finding"]
    # What only goes with the label in every sample stays: these samples cannot tell the two apart.
    assert [c.name for c in concepts] == ["tag"]
    assert concepts[0].same == ("site=B",)
    asked, _ = resolve_concepts(data, ConceptRequest(["target"]))
    assert [c.name for c in asked] == ["target"]
    with pytest.raises(InputError, match="it is what the model is to predict"):
        resolve_concepts(data, ConceptRequest(["label"]))


def test_a_column_that_fails_the_label_once_is_not_the_label():
    label = np.arange(N) % 2
    turned = label.copy()
    turned[0] = 1 - turned[0]
    frame = pd.DataFrame({"label": label, "target": turned, "class_name": np.array(["b", "a"])[label]})
    assert is_the_label(frame, "target", None) is None
    assert is_the_label(frame, "class_name", ("a", "b")) is not None  # named so, whatever its words
    frame["finding"] = np.array(["b", "a"])[label]
    assert is_the_label(frame, "finding", ("a", "b")) is None  # the classes' names, but the wrong way round


def test_c1_present_is_said_per_column():
    words = np.where(np.arange(N) % 3 == 0, "left", "right")
    data = audited(side=words, coin=np.arange(N) // 2 % 2)
    (side, _), _ = resolve_concepts(data, ConceptRequest())
    assert (side.name, side.reading.symmetric) == ("side=right", True)
    (side, _), _ = resolve_concepts(data, ConceptRequest(present={"side": "left"}))
    assert (side.name, side.reading.symmetric, side.n_carriers) == ("side=left", False, 20)
    with pytest.raises(InputError, match="--present 'side=right'"):
        resolve_concepts(data, ConceptRequest(["side"]))
    (side,), _ = resolve_concepts(data, ConceptRequest(["side"], {"side": "left"}))
    assert side.name == "side=left"
    with pytest.raises(InputError, match="present names 'ruler'"):
        resolve_concepts(data, ConceptRequest(present={"ruler": "1"}))


def test_c2_a_column_that_the_training_samples_write_otherwise_is_refused():
    here = audited(ring=np.where(np.arange(N) % 3 == 0, "present", "absent"))
    frame = pd.DataFrame(
        {"label": np.arange(N) % 2, "ring": np.arange(N) // 2 % 2, "sample_id": [f"t{k}" for k in range(N)]}
    )
    train = ImageTable.from_arrays(np.zeros((N, 8, 8), np.float32), frame)
    data = audited_data(here.table, TrainingData(train))
    with pytest.raises(InputError, match="written otherwise in the training samples"):
        resolve_concepts(data, ConceptRequest(["ring"]))


def test_names_that_the_run_needs_are_refused():
    coin = np.arange(N) // 2 % 2
    with pytest.raises(InputError, match=r"cannot be called 'tag.score'"):
        resolve_concepts(audited(**{"tag": coin, "tag.score": np.arange(N) // 3 % 2}), ConceptRequest())
