import sys

import numpy as np
import pytest

from shortcutscope.data.readers.image import UnreadableImageError, is_image_name, read_image
from shortcutscope.data.readers.waveforms import read_waveform, waveform_length
from shortcutscope.data.table import ImageTable
from shortcutscope.extras import MissingExtraError

pytest.importorskip("wfdb")

LEADS = ["I", "II", "V1"]


@pytest.fixture
def signals():
    return np.random.default_rng(0).integers(-3000, 3000, (3, 40)) / 1000


def test_a_record_is_read_in_its_physical_unit_leads_first(tmp_path, signals, write_record):
    path = write_record(tmp_path, "a", signals, LEADS)
    for name in ("a.hea", "a.dat"):
        found = read_image(tmp_path / name)
        assert found.dtype == np.float32
        assert np.allclose(found, signals, atol=1e-6)
    assert waveform_length(path) == 40


def test_an_invalid_sample_is_no_number(tmp_path, signals, write_record):
    signals[1, 3] = np.nan
    found = read_waveform(write_record(tmp_path, "a", signals, LEADS))
    assert np.argwhere(np.isnan(found)).tolist() == [[1, 3]]


def test_faster_signals_are_averaged_to_the_rate_of_the_record(tmp_path):
    slow, fast = np.arange(10), 2 * np.arange(20)
    frames = np.column_stack([slow, fast.reshape(10, 2)]).astype("<i2")
    (tmp_path / "a.dat").write_bytes(frames.tobytes())
    (tmp_path / "a.hea").write_text(
        "a 2 50 10\na.dat 16 1/mV 16 0 0 0 0 slow\na.dat 16x2 1/mV 16 0 0 0 0 fast\n"
    )
    assert np.allclose(read_waveform(tmp_path / "a.hea"), [slow, fast.reshape(10, 2).mean(axis=1)])


def test_segments_are_joined(tmp_path, signals, write_record):
    for k in range(2):
        write_record(tmp_path, f"a_{k}", signals[:, 20 * k : 20 * (k + 1)], LEADS)
    (tmp_path / "a.hea").write_text("a/2 3 100 40\na_0 20\na_1 20\n")
    assert np.allclose(read_waveform(tmp_path / "a.hea"), signals, atol=1e-6)
    (tmp_path / "a_1.dat").unlink()
    with pytest.raises(UnreadableImageError, match=r"signal file 'a_1\.dat'"):
        read_image(tmp_path / "a.hea")


def test_a_manifest_of_records_is_a_table_of_signals(tmp_path, signals, write_record):
    for k in range(4):
        write_record(tmp_path, f"r{k}", signals + k / 10, LEADS)
    (tmp_path / "t.csv").write_text(
        "image,label\n" + "".join(f"r{k}.{'dat' if k % 2 else 'hea'},{k % 2}\n" for k in range(4))
    )
    table = ImageTable.from_csv(tmp_path / "t.csv", value_range=(-4, 4)).verify(progress=False)
    assert table.shape == (3, 40)
    assert np.allclose(table.image(3).numpy(), signals + 0.3, atol=1e-6)
    assert table.geometry(3).size == (40,)
    short = ImageTable.from_csv(tmp_path / "t.csv", value_range=(-4, 4), size=20)
    assert short.shape == (3, 20)
    assert short.geometry(0).size == (40,)
    assert short.geometry(0).input_size == (20,)


def test_a_folder_of_records_has_each_once(tmp_path, signals, write_record):
    for name in ("healthy", "sick"):
        (tmp_path / name).mkdir()
        write_record(tmp_path / name, "r0", signals, LEADS)
    table = ImageTable.from_folder(tmp_path, value_range=(-4, 4))
    assert list(table.files.values()) == ["healthy/r0.hea", "sick/r0.hea"]
    assert not is_image_name(tmp_path / "sick" / "r0.dat")


def test_broken_records_are_named(tmp_path, signals, write_record):
    path = write_record(tmp_path, "a", signals, LEADS)
    path.with_suffix(".dat").write_bytes(path.with_suffix(".dat").read_bytes()[:50])
    (tmp_path / "b.hea").write_text("")
    write_record(tmp_path, "c", signals, LEADS)
    (tmp_path / "c.dat").unlink()
    (tmp_path / "d.dat").write_bytes(b"no record")
    (tmp_path / "e.hea").write_text("e 0 100 10\n")
    said = {
        "a.hea": "",
        "b.hea": "",
        "c.hea": "signal file 'c.dat'",
        "d.dat": "",
        "e.hea": "no signals",
        "f.hea": "no such file",
    }
    for name, reason in said.items():
        with pytest.raises(UnreadableImageError, match=rf"{name}'.*{reason}"):
            read_image(tmp_path / name)


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(MissingExtraError, match=r"WFDB records needs wfdb.*shortcutscope\[medical\]"):
        read_image(tmp_path / "a.hea")
