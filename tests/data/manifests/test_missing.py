"""Only empty cells are missing, and what the user names."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.cli.inputs import open_table, present_choice
from shortcutscope.cli.options import DataOptions
from shortcutscope.data.manifests.columns import encode_labels
from shortcutscope.data.manifests.missing import without_markers
from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.probes.concept import Concept


@pytest.fixture
def manifest(tmp_path):
    rows = ["image,label,implant,side,age"]
    for k in range(60):
        Image.fromarray(np.full((4, 4), k, np.uint8)).save(tmp_path / f"{k}.png")
        implant = "None" if k % 3 else "pacemaker"
        rows.append(f"{k}.png,{k % 2},{implant},{['L', 'R', 'NA'][k % 3]},{k + 0.5 if k % 5 else 'NA'}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_c4_words_that_pandas_takes_for_missing_are_kept(manifest):
    frame = ImageTable.from_csv(manifest).frame
    assert frame["implant"].value_counts().to_dict() == {"None": 40, "pacemaker": 20}
    assert frame["side"].value_counts().to_dict() == {"L": 20, "R": 20, "NA": 20}
    (implant,) = Concept.from_column(frame, "implant")
    assert (implant.name, implant.n_carriers, implant.known.sum()) == ("implant=pacemaker", 20, 60)
    with pytest.raises(
        InputError, match=r"column 'age' holds numbers, but 'NA' in 12 of 60 rows.*--missing NA"
    ):
        Concept.from_column(frame, "age")


def test_c4_what_the_user_names_is_missing(manifest):
    for table in (
        ImageTable.from_csv(manifest, missing=["na"]),
        open_table(manifest, DataOptions(missing="NA, unknown")),
    ):
        assert table.frame["side"].isna().sum() == 20
        (age,) = Concept.from_column(table.frame, "age")
        assert (age.name, age.known.sum()) == ("age high", 32)
    with pytest.raises(InputError, match=r"give a list: missing=\['NA'\]"):
        ImageTable.from_csv(manifest, missing="NA")


def test_c4_numbers_with_unknown_ones_are_no_classes():
    with pytest.raises(InputError, match=r"numbers, but 'NA' in 1 of 3 rows: leave these rows out"):
        encode_labels(pd.Series(["0", "1", "NA"]))
    assert encode_labels(pd.Series(["AF", "NA"]))[1] == ("AF", "NA")
    assert encode_labels(pd.Series(["0", "NA"]), ["0", "NA"])[1] == ("0", "NA")


def test_markers_may_be_numbers_and_frames_of_any_kind():
    frame = pd.DataFrame(
        {
            "a": [1, -9, 3],
            "b": ["x", " ? ", None],
            "c": pd.Categorical(["1", "?", "2"]),
            "d": [True, False, True],
        }
    )
    found = without_markers(frame, ["-9", "?"])
    assert found["a"].isna().tolist() == [False, True, False]
    assert found["b"].isna().tolist() == [False, True, True]
    assert found["c"].dropna().tolist() == ["1", "2"]
    assert found["d"].tolist() == [True, False, True]
    assert without_markers(frame, []) is frame


def test_present_on_the_command_line():
    assert present_choice(["collimation=frame", "side = left=right"]) == {
        "collimation": "frame",
        "side": "left=right",
    }
    for texts, said in (
        (["frame"], "give COLUMN=VALUE"),
        (["a=1", "a=2"], "given twice"),
        (["a="], "give COLUMN"),
    ):
        with pytest.raises(InputError, match=said):
            present_choice(texts)
