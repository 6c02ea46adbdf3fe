"""Features from memory and files: what is read as it is, and what is refused with the mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shortcutscope.data.features import Features, duplicates
from shortcutscope.errors import InputError

X = np.arange(24, dtype=np.float32).reshape(6, 4)
IDS = [f"s{k}" for k in range(6)]


def test_arrays_tensors_and_lists_are_features() -> None:
    for source in (X, torch.from_numpy(X), torch.from_numpy(X).bfloat16(), X.tolist(), X.astype(int)):
        features = Features.of(source)
        assert features.ids is None
        assert not features.notes
        np.testing.assert_array_equal(features.values, X)
    assert Features.of(features) is features


def test_an_npz_holds_features_ids_and_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=X, sample_id=np.array(IDS, "S"), label=[0, 1] * 3, weight=X[:2])
    features = Features.of(tmp_path / "a.npz")
    np.testing.assert_array_equal(features.values, X)
    assert features.ids == tuple(IDS)
    assert features.columns["label"].tolist() == [0, 1] * 3


def test_the_only_wide_array_of_an_npz_is_the_features(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", uni=X)
    np.save(tmp_path / "b.npy", X)
    for name in ("a.npz", "b.npy"):
        np.testing.assert_array_equal(Features.of(str(tmp_path / name)).values, X)
    np.savez(tmp_path / "c.npz", uni=X, conch=X)
    with pytest.raises(InputError, match=r"which array of the npz.*'uni', 'conch'.*'features'"):
        Features.of(tmp_path / "c.npz")


def test_columns_are_features_by_their_number(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).normal(size=(6, 12))
    frame = pd.DataFrame(wide, columns=[f"f{k}" for k in range(12)]).assign(label=0, sample_id=IDS)
    frame = frame[sorted(frame.columns)]  # f0, f1, f10, f11, f2 ...
    frame.to_parquet(tmp_path / "a.parquet")
    features = Features.of(tmp_path / "a.parquet")
    np.testing.assert_array_equal(features.values, wide)
    assert features.ids == tuple(IDS)
    assert list(features.columns) == ["label"]


def test_one_column_of_lists_is_the_features(tmp_path: Path) -> None:
    frame = pd.DataFrame({"sample_id": IDS, "vector": list(X), "site": list("aabbcc"), "week1": 1})
    frame.to_parquet(tmp_path / "a.parquet")
    features = Features.of(tmp_path / "a.parquet")
    np.testing.assert_array_equal(features.values, X)
    assert list(features.columns) == ["site", "week1"]


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (pd.DataFrame({"f0": [1.0], "f2": [1.0]}), "f1 is missing"),
        (pd.DataFrame({"a0": [1.0], "a1": [1.0], "b0": [1.0], "b1": [1.0]}), "which columns"),
        (pd.DataFrame({"age": [1.0]}), "no features among the columns"),
        (pd.DataFrame({"v": [[1.0, 2.0], [1.0]]}), "different lengths"),
        (pd.DataFrame({"v": [[1.0, 2.0], None]}), "1 rows have no features"),
        (pd.DataFrame({"v": [[1.0]], "w": [[1.0]]}), "several columns hold lists"),
        (pd.DataFrame({"f0": [1.0, 2.0], "f1": [1.0, 2.0], "sample_id": ["a", "a"]}), "more than once"),
    ],
)
def test_tables_that_leave_it_open_are_refused(frame: pd.DataFrame, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Features.of(frame)


def test_half_precision_is_taken_and_said() -> None:
    features = Features.of(X.astype(np.float16))
    assert features.values.dtype == np.float32
    assert "half precision" in features.notes[0]
    with np.errstate(over="ignore"), pytest.raises(InputError, match=r"65,504.*save them as float32"):
        Features.of((X * 1e6).astype(np.float16))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (X.astype(object), r"Python objects, not numbers.*astype"),
        (X.astype(str), "not numbers"),
        (X.astype(complex), "not numbers"),
        (X[0], r"shape \(4,\)"),
        (X.reshape(6, 2, 2), "Average the tokens"),
        (X[:0], r"shape \(0, 4\)"),
        (np.where(X == 5, np.nan, X), "1 of 6 rows hold NaN.*row 1"),
        (np.where(X > 19, np.inf, X), "1 of 6 rows hold NaN or infinities"),
        (np.ones((6, 4)), "all 6 rows are the same"),
        ([[1.0, 2.0], [1.0]], "not all of one length"),
    ],
)
def test_what_cannot_be_measured_is_refused(values: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        Features.of(values, "uni")


def test_constant_features_are_counted() -> None:
    assert Features.of(np.c_[X, np.ones(6)]).notes == ("1 of 5 features are the same for all samples",)


def test_files_that_need_pickle_or_are_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", features=X.astype(object))
    with pytest.raises(InputError, match=r"Python objects, which are not read.*save it as npz"):
        Features.of(tmp_path / "a.npz")
    for name in ("a.pt", "a.csv", "broken.npz", "broken.parquet"):
        (tmp_path / name).write_bytes(b"no such thing")
        with pytest.raises(InputError, match=r"cannot be read.*np\.savez"):
            Features.of(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        Features.of(tmp_path / "none.npz")
    np.savez(tmp_path / "ids.npz", features=X, sample_id=IDS[:3])
    with pytest.raises(InputError, match="one id per row"):
        Features.of(tmp_path / "ids.npz")


def test_duplicates_are_those_of_other_patients() -> None:
    values = X[[0, 0, 1, 1, 2]]
    assert duplicates(values, ["a", "a", "b", "c", "d"]) == 1


def test_the_fingerprint_is_of_ids_and_values() -> None:
    first = Features.of(X)
    assert first.fingerprint() == Features.of(X.copy()).fingerprint()
    assert (
        first.fingerprint() != Features.of(X + 1).fingerprint() != Features.of(X.astype(float)).fingerprint()
    )
