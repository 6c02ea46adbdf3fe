"""Which row of the features is whose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shortcutscope.data.features import Features
from shortcutscope.data.manifests.columns import Roles
from shortcutscope.embeddings.table import labelled_table, matched, own_columns
from shortcutscope.errors import InputError

X = np.arange(24.0).reshape(6, 4)
IDS = [f"s{k}" for k in range(6)]
FRAME = pd.DataFrame({"sample_id": IDS, "label": [0, 1] * 3, "site": list("aabbcc")})


def features(ids: list[str] | None = None, n: int = 6) -> Features:
    return Features(X[:n], None if ids is None else tuple(ids))


def test_rows_are_matched_by_id_in_any_order() -> None:
    samples = labelled_table(FRAME, Roles())
    rows, how = matched(features(IDS[::-1]), samples, samples.table, "uni")
    assert rows.tolist() == [5, 4, 3, 2, 1, 0]
    assert how == "rows were matched by sample_id"
    rows, how = matched(features(IDS), samples, samples.table.take([1, 3]), "uni")
    assert rows.tolist() == [1, 3]
    assert "4 further rows were left out" in how


def test_missing_ids_are_named() -> None:
    samples = labelled_table(FRAME, Roles())
    with pytest.raises(InputError, match=r"'uni' has no features of 1 of 6 samples, among them 's5'"):
        matched(features([*IDS[:5], "s9"]), samples, samples.table, "uni")


@pytest.mark.parametrize("ids", [None, IDS])
def test_position_is_taken_where_ids_lack_and_is_said(ids: list[str] | None) -> None:
    frame = FRAME if ids is None else FRAME.drop(columns="sample_id")
    samples = labelled_table(frame, Roles())
    rows, how = matched(features(ids), samples, samples.table.take([4, 0]), "uni")
    assert rows.tolist() == [4, 0]
    assert "by position" in how


@pytest.mark.parametrize(
    ("ids", "frame", "match"),
    [
        (None, FRAME, "which the features lacks"),
        (IDS[:5], FRAME.drop(columns="sample_id"), "which the table lacks"),
        (None, FRAME.drop(columns="sample_id"), "which neither has"),
    ],
)
def test_other_lengths_are_never_matched_by_position(
    ids: list[str] | None, frame: pd.DataFrame, match: str
) -> None:
    samples = labelled_table(frame, Roles())
    with pytest.raises(InputError, match=rf"5 rows and the table 6.*{match}.*Give ids to both"):
        matched(features(ids, 5), samples, samples.table, "uni")


def test_a_table_is_read_with_its_ids_as_text(tmp_path: Path) -> None:
    FRAME.assign(sample_id=[f"00{k}" for k in range(6)]).to_csv(tmp_path / "t.csv", index=False)
    samples = labelled_table(tmp_path / "t.csv", Roles())
    assert samples.has_ids
    assert samples.table.frame["sample_id"].tolist()[0] == "000"
    assert samples.table.metadata == ["site"]


def test_the_features_own_columns_are_the_table() -> None:
    own = Features(X, tuple(IDS), FRAME[["label", "site"]])
    assert list(own_columns({"a": own}).columns) == ["label", "site", "sample_id"]
    with pytest.raises(InputError, match="no labels are given"):
        own_columns({"a": features()})
    with pytest.raises(InputError, match="several files hold columns"):
        own_columns({"a": own, "b": own})
