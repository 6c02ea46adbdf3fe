import numpy as np
import pandas as pd
import pytest
from PIL import Image

from shortcutscope.errors import InputError
from shortcutscope.retrieval.detecting.crops import HEIGHT, Crops
from shortcutscope.retrieval.detecting.sheet import SHEET, TABLE, is_answered, read_kept, write_crops

IDS = ["a", "NA", "c"]


@pytest.fixture
def folder(tmp_path):
    boxes = [(0, "a", 1.0, 2.0, 16.0, 13.0), (0, "NA", 3, 4, 18, 15), (1, "c", 5, 6, 20, 17)]
    frame = pd.DataFrame(boxes, columns=["kind", "sample_id", "x0", "y0", "x1", "y1"])
    frame["searched"] = frame["kind"] == 0
    grey, colours = np.full((HEIGHT, 80), 200, np.uint8), np.zeros((HEIGHT, 50, 3), np.uint8)
    return write_crops(Crops(frame, {0: grey, 1: grey, 2: colours}, True), tmp_path / "crops")


def answer(folder, *words):
    frame = pd.read_csv(folder / TABLE, dtype=str, keep_default_na=False)
    frame.assign(keep=words).to_csv(folder / TABLE, index=False)


def test_crops_that_are_kept_come_back(folder):
    assert not is_answered(folder)
    with pytest.raises(InputError, match=r"column keep of .* is empty"):
        read_kept(folder, IDS)
    answer(folder, "1", "0", "")
    assert is_answered(folder)
    assert read_kept(folder, IDS) == [[(0, (1.0, 2.0, 16.0, 13.0))]]
    answer(folder, "", "no", "")
    assert [[row for row, _ in kind] for kind in read_kept(folder, IDS)] == [[0]]
    answer(folder, "yes", "", "x")
    assert [[row for row, _ in kind] for kind in read_kept(folder, IDS)] == [[0], [2]]
    answer(folder, "0", "0", "0")
    assert read_kept(folder, IDS) == []


def test_the_sheet_shows_all_crops(folder):
    with Image.open(folder / SHEET) as page:
        pixels = np.asarray(page)
    assert (pixels == 200).all(2).sum() >= 2 * HEIGHT * 80
    assert (pixels == 0).all(2).sum() >= HEIGHT * 50


def test_tables_that_cannot_be_read_are_refused(folder):
    answer(folder, "1", "perhaps", "")
    with pytest.raises(InputError, match="holds 'perhaps'"):
        read_kept(folder, IDS)
    answer(folder, "1", "1", "1")
    with pytest.raises(InputError, match=r"not scanned, for example \['NA'\]"):
        read_kept(folder, ["a", "c"])
    with pytest.raises(InputError, match="has answers"):
        write_crops(None, folder)
    (folder / TABLE).write_text("kind,keep\n0,1\n")
    with pytest.raises(InputError, match="lacks the columns crop, sample_id"):
        read_kept(folder, IDS)
