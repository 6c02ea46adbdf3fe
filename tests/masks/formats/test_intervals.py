"""Intervals of signals as CSV."""

import numpy as np
import pandas as pd
import pytest

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.intervals import import_csv
from shortcutscope.masks.mask_files import Assessment
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter


@pytest.fixture
def signals(tmp_path):
    """Ragged masks of three signals, and one without anything."""
    rng = np.random.default_rng(0)
    with MaskWriter(tmp_path / "m", "pacing", {"model": "0f" * 32, "threshold": 0.4}) as writer:
        for k in range(4):
            mask = np.repeat(rng.random((12, 50)) > 0.7, 10, axis=1) & (k < 3)
            writer.append(
                f"p{k}/ecg, a", mask, kind="signal", assessment=Assessment(confidence=0.2 * k, flagged=k == 1)
            )
    return MaskSet.open(tmp_path / "m")


def test_every_interval_is_a_row_and_comes_back(signals, tmp_path):
    names = [f"V{k}" for k in range(12)]
    path = signals.export(tmp_path / "csv", "csv", rate=500, leads=names)
    frame = pd.read_csv(path / "intervals.csv")
    assert list(frame) == ["sample_id", "lead", "lead_name", "start", "stop", "start_s", "stop_s"]
    assert (frame["stop"] - frame["start"]).sum() == sum(entry.area for entry in signals.entries)
    assert (frame["lead_name"] == "V" + frame["lead"].astype(str)).all()
    assert np.allclose(frame["start_s"] * 500, frame["start"])
    for like in (None, signals):
        back = import_csv(path, tmp_path / f"back-{like is None}", like=like)
        assert sorted(back.sample_ids) == sorted(signals.sample_ids)
        assert back.provenance["threshold"] == 0.4
        for entry in signals.entries:
            assert np.array_equal(back.mask(entry.sample_id), signals.mask(entry.sample_id))
            again = back.entry(entry.sample_id)
            assert (again.kind, again.confidence, again.flagged) == (
                "signal",
                entry.confidence,
                entry.flagged,
            )
            assert not again.edited


def test_an_edited_interval_is_told(signals, tmp_path):
    path = signals.take(signals.sample_ids[:2]).export(tmp_path / "csv", "csv")
    frame = pd.read_csv(path / "intervals.csv").iloc[::-1]
    added = pd.DataFrame([{"sample_id": signals.sample_ids[1], "lead": 3, "start": 0, "stop": 500}])
    pd.concat([frame, added]).to_csv(path / "intervals.csv", index=False)
    back = import_csv(path, tmp_path / "back", like=signals)
    assert sorted(back.sample_ids) == signals.sample_ids[:2]  # those that were exported
    assert back.mask(signals.sample_ids[1])[3].all()
    assert [back.entry(name).edited for name in signals.sample_ids[:2]] == [False, True]
    assert back.entry(signals.sample_ids[1]).accepted is True


def test_refusals(signals, tmp_path):
    with MaskWriter(tmp_path / "images", "ruler") as writer:
        writer.append("a", np.ones((3, 4), bool))
    with pytest.raises(InputError, match="CSV holds masks of kind signal"):
        MaskSet.open(tmp_path / "images").export(tmp_path / "x", "csv")
    for format in ("png", "coco", "cvat", "labelme", "nifti"):
        with pytest.raises(InputError, match=r"is a signal\. Use npz, which holds all, or csv"):
            signals.export(tmp_path / "x", format)
    with pytest.raises(InputError, match="2 names of leads"):
        signals.export(tmp_path / "x", "csv", leads=["I", "II"])
    with pytest.raises(InputError, match="rate must be positive"):
        signals.export(tmp_path / "x", "csv", rate=0)
    assert not (tmp_path / "x").exists()
    alone = tmp_path / "alone.csv"
    for text, said in (
        ("sample_id,lead\na,1\n", "lacks the columns start, stop"),
        (f'sample_id,lead,start,stop\n"{signals.sample_ids[0]}",12,0,5\n', "has lead 12"),
        (f'sample_id,lead,start,stop\n"{signals.sample_ids[0]}",1,7.5,9\n', "start must be a whole number"),
        ("sample_id,lead,start,stop\nnobody,1,0,5\n", "nobody"),
    ):
        alone.write_text(text)
        with pytest.raises(InputError, match=said):
            import_csv(alone, tmp_path / "back", like=signals)
    with pytest.raises(InputError, match="sizes of the signals are not known"):
        import_csv(alone, tmp_path / "back")
