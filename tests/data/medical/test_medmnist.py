import sys
import types

import numpy as np
import pytest

from shortcutscope.data.medical import open_dataset
from shortcutscope.data.medical.layout import LayoutError
from shortcutscope.data.medical.medmnist import medmnist
from shortcutscope.errors import InputError
from shortcutscope.extras import MissingExtraError


def write(path, labels=1, item=(6, 6)):
    arrays = {}
    for split, n in (("train", 4), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = np.full((n, *item), 51, dtype=np.uint8)
        columns = [(np.arange(n) + k) % 2 for k in range(labels)]
        arrays[f"{split}_labels"] = np.stack(columns, axis=1).astype(np.uint8)
    np.savez(path, **arrays)
    return path


@pytest.fixture
def without_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "medmnist", None)


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Stands for the package medmnist: two sets, kept in a folder, to which it downloads."""
    kept = tmp_path / "kept"
    kept.mkdir()

    class PneumoniaMNIST:
        def __init__(self, split, download, size):
            assert download
            write(kept / f"pneumoniamnist{'' if size == 28 else f'_{size}'}.npz", item=(size, size))

    module, info = types.ModuleType("medmnist"), types.ModuleType("medmnist.info")
    module.INFO = info.INFO = {
        "pneumoniamnist": {
            "python_class": "PneumoniaMNIST",
            "label": {"0": "normal", "1": "pneumonia"},
            "url": "",
            "url_64": "",
        },
        "chestmnist": {
            "python_class": "ChestMNIST",
            "label": {"0": "atelectasis", "1": "effusion"},
            "url": "",
        },
    }
    info.DEFAULT_ROOT = str(kept)
    module.info, module.PneumoniaMNIST = info, PneumoniaMNIST
    monkeypatch.setitem(sys.modules, "medmnist", module)
    monkeypatch.setitem(sys.modules, "medmnist.info", info)
    return kept


@pytest.mark.usefixtures("without_package")
def test_a_file_or_a_folder_of_files(tmp_path):
    write(tmp_path / "bloodmnist.npz", item=(6, 6, 3))
    write(tmp_path / "bloodmnist_64.npz", item=(64, 64, 3))
    table = open_dataset("medmnist", tmp_path / "bloodmnist.npz")
    assert table.frame["split"].tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 3
    assert table.frame["label"].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert table.shape == (3, 6, 6)
    assert table.classes is None
    assert not table.has_groups
    assert medmnist(tmp_path, which="bloodmnist").shape == (3, 6, 6)
    assert medmnist(tmp_path, which="bloodmnist", pixels=64, splits=["test"]).shape == (3, 64, 64)
    with pytest.raises(InputError, match="is a folder; say which set"):
        medmnist(tmp_path)
    with pytest.raises(LayoutError, match=r"no file 'bloodmnist_128\.npz'"):
        medmnist(tmp_path, which="bloodmnist", pixels=128)


@pytest.mark.usefixtures("without_package")
def test_without_the_package_a_name_needs_the_extra(tmp_path):
    with pytest.raises(MissingExtraError, match=r"by its name needs medmnist.*shortcutscope\[medmnist\]"):
        medmnist("pneumoniamnist")
    write(tmp_path / "chestmnist.npz", labels=2)
    with pytest.raises(InputError, match="give its number"):
        medmnist(tmp_path / "chestmnist.npz", finding="effusion")
    table = medmnist(tmp_path / "chestmnist.npz", finding=1)
    assert table.frame["label"].tolist()[:4] == [1, 0, 1, 0]
    assert table.frame["label_0"].tolist()[:4] == [0, 1, 0, 1]
    with pytest.raises(InputError, match="2 labels; choose one"):
        medmnist(tmp_path / "chestmnist.npz")


def test_the_package_gives_class_names_and_files(package, tmp_path):
    with pytest.raises(LayoutError, match="download=True lets the package"):
        medmnist("pneumoniamnist")
    table = medmnist("PneumoniaMNIST", download=True)
    assert table.classes == ("normal", "pneumonia")
    assert table.shape == (1, 28, 28)
    assert len(medmnist("pneumoniamnist", splits=["val"])) == 2
    assert medmnist("pneumoniamnist", pixels=64, download=True).shape == (1, 64, 64)
    assert medmnist(package / "pneumoniamnist_64.npz").classes == ("normal", "pneumonia")
    assert medmnist(write(tmp_path / "own.npz")).classes is None
    with pytest.raises(InputError, match="no images of 128 pixels; it has 28, 64"):
        medmnist("pneumoniamnist", pixels=128)
    with pytest.raises(InputError, match=r"no set 'facemnist' in MedMNIST.*pneumoniamnist, chestmnist"):
        medmnist("facemnist")


@pytest.mark.usefixtures("package")
def test_findings_by_their_name(tmp_path):
    path = write(tmp_path / "chestmnist.npz", labels=2)
    table = medmnist(path, finding="effusion", splits=["test"])
    assert table.classes == ("no effusion", "effusion")
    assert table.metadata == ["atelectasis"]
    assert table.frame["label"].tolist() == [1, 0, 1]
    assert table.frame["atelectasis"].tolist() == [0, 1, 0]
    with pytest.raises(InputError, match="no finding 'hernia'; there are atelectasis, effusion"):
        medmnist(path, finding="hernia")


@pytest.mark.usefixtures("without_package")
def test_other_layouts_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4)))
    with pytest.raises(LayoutError, match=r"(?s)no array 'train_images'; it has images.*medmnist\.com"):
        medmnist(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"nothing")
    with pytest.raises(LayoutError, match="as an npz file"):
        medmnist(tmp_path / "b.npz")
    with pytest.raises(LayoutError, match="no such file or folder"):
        medmnist(tmp_path / "none.npz")
    with pytest.raises(InputError, match="splits must be a list"):
        medmnist(write(tmp_path / "c.npz"), splits="train")


@pytest.mark.usefixtures("without_package")
def test_images_are_loaded_when_they_are_asked_for(tmp_path, monkeypatch):
    import shortcutscope.data.sources as sources

    loaded = []
    read = sources.read_npz
    monkeypatch.setattr(sources, "read_npz", lambda path, member: loaded.append(member) or read(path, member))
    table = medmnist(write(tmp_path / "a.npz"))
    assert loaded == []
    table.image(5)
    assert loaded == ["val_images"]


def test_real_files(shared_data):
    assert len(medmnist(shared_data / "pneumoniamnist.npz", splits=["test"])) == 624
