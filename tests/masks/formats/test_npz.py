import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.masks.formats.npz import import_npz
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter


def test_numpy_reads_it_and_it_comes_back(masks, tmp_path, same):
    path = masks.export(tmp_path / "ruler.npz", format="npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays.files) == {*masks.sample_ids, "shortcutscope"}
        for name, mask in masks:
            assert arrays[name].dtype == bool
            assert np.array_equal(arrays[name], mask)
    assert same(import_npz(path, tmp_path / "back"), masks)
    stored = masks.in_frame("stored")
    path = stored.export(tmp_path / "stored.npz", format="npz")
    assert same(import_npz(path, tmp_path / "turned", like=stored), masks)
    assert import_npz(path, tmp_path / "alone").mask("s-a").shape == (18, 30)


def test_volumes_and_signals_and_names_with_folders(tmp_path):
    generator = np.random.default_rng(0)
    volume, signal = generator.random((3, 4, 5)) > 0.5, generator.random((12, 100)) > 0.5
    with MaskWriter(tmp_path / "m", "pacing") as writer:
        writer.append("p1/v", volume)
        writer.append("p1/s", signal, kind="signal")
    path = MaskSet.open(tmp_path / "m").export(tmp_path / "a.npz", format="npz")
    back = import_npz(path, tmp_path / "back")
    assert np.array_equal(back.mask("p1/v"), volume)
    assert np.array_equal(back.mask("p1/s"), signal)
    assert [entry.kind for entry in back.entries] == ["volume", "signal"]


def test_arrays_of_other_makers(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(3, dtype=np.uint8))
    back = import_npz(tmp_path / "a.npz", tmp_path / "back", name="tag")
    assert np.array_equal(back.mask("x"), np.eye(3, dtype=bool))
    np.savez(tmp_path / "b.npz", x=np.full((2, 2), 0.3))
    with pytest.raises(InputError, match=r"b\.npz.*'x'"):
        import_npz(tmp_path / "b.npz", tmp_path / "1")
    (tmp_path / "c.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "d.npz", shortcutscope=np.array("{"))
    np.savez(tmp_path / "e.npz", x=np.array([{}]))
    for name in ("c.npz", "d.npz", "e.npz", "none.npz"):
        with pytest.raises(InputError, match=name):
            import_npz(tmp_path / name, tmp_path / name[0])
