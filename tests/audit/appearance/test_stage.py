"""Findings get names and pictures from images of all kinds, each of which is read once."""

from types import SimpleNamespace

import image_text_model
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import shortcutscope as ss
from shortcutscope.audit.appearance.contrast import ContrastSheet
from shortcutscope.audit.appearance.sheet import part_of
from shortcutscope.audit.appearance.stage import Seen, with_appearance
from shortcutscope.audit.finding import FindingRecord
from shortcutscope.probes.reading import Reading
from shortcutscope.scan.rows import StoredRows


class Reader:
    """Stands for the store of a scan: random features."""

    def __init__(self, n):
        self.features = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)

    def read_rows(self, key, start, stop, out):
        out[:] = self.features[start:stop]


def scan_of(table):
    samples = table.frame[["sample_id", "label", "group"]]
    reader = Reader(len(table))

    def rows(layer, stat):
        return StoredRows(reader, ("x",), (len(table), 4))

    return SimpleNamespace(samples=samples, layers=["last"], activation_rows=rows, rows_in_whole=None)


def seen(table, extent="diffuse", **values):
    ids = table.frame["sample_id"]
    concepts = pd.DataFrame({"sample_id": ids, **{k: pd.Series(v).astype("Int8") for k, v in values.items()}})
    findings = [
        FindingRecord(name, "discovered", "", "shortcut", "", extent=extent, evidence=CELLS)
        for name in values
    ]
    return Seen(findings, concepts, scan_of(table))


CELLS = {"cell_map": [[0.95, 0.5, 0.5, 0.5], *[[0.5] * 4] * 3]}
N = 80
LABELS, CARRIES = np.arange(N) % 2, np.arange(N) // 2 % 2


def look(table, one):
    return with_appearance([one], table, seed=0, workers=0, progress=False)[0]


def images(rng=None):
    rng = rng or np.random.default_rng(0)
    pictures = 0.3 + 0.1 * rng.random((N, 1, 40, 32), dtype=np.float32)
    pictures[CARRIES == 1] += 0.3
    return ss.ImageTable.from_arrays(pictures, LABELS)


def test_a_brighter_side_is_called_brighter_and_reads_each_image_once(monkeypatch):
    table = images()
    reads, read = [], type(table).image

    def counted(self, row):
        reads.append(row)
        return read(self, row)

    monkeypatch.setattr(type(table), "image", counted)
    looked = look(table, seen(table, a=CARRIES, b=1 - CARRIES))
    assert len(reads) <= N + 2
    first, second = looked.findings
    assert first.looks.startswith("brighter: mean grey 0.65 against 0.35")
    assert first.title == f"{first.name} ({first.looks})"
    assert second.looks.startswith("darker")
    assert "darker" in repr(second)
    sheet = looked.contrasts["a"]
    assert sheet.carriers.shape == (6, 40, 32)
    assert sheet.difference == pytest.approx(np.full((40, 32), 0.3), abs=0.1)
    assert sheet.difference.mean() == pytest.approx(0.3, abs=0.01)
    labels = dict(zip(table.frame["sample_id"].astype(str), LABELS, strict=True))
    pairs = zip(sheet.carrier_ids, sheet.other_ids, sheet.labels, strict=True)
    assert all(labels[a] == labels[b] == label for a, b, label in pairs)


def test_the_label_is_not_seen_in_the_difference():
    rng = np.random.default_rng(2)
    carries = (rng.random(N) < np.where(LABELS == 1, 0.85, 0.15)).astype(int)
    pictures = 0.3 + 0.1 * rng.random((N, 1, 16, 16), dtype=np.float32) + 0.4 * LABELS[:, None, None, None]
    table = ss.ImageTable.from_arrays(pictures.astype(np.float32), LABELS)
    looked = look(table, seen(table, a=carries))
    assert abs(looked.contrasts["a"].difference.mean()) < 0.02
    assert looked.findings[0].looks == ""
    assert "no property" in looked.findings[0].appearance["why"]


def test_what_is_localized_shows_its_part_and_has_no_name():
    table = images()
    looked = look(table, seen(table, "localized", a=CARRIES))
    assert looked.findings[0].looks == ""
    assert looked.contrasts["a"].carrier_patches.shape == (6, 10, 8)
    assert part_of({"cell_map": None}) is None
    assert part_of({"cell_map": [0.9, 0.5]}) is None


def test_one_carrier_and_a_label_without_others():
    table = images()
    one, whole = (np.arange(N) == 5).astype(int), (LABELS == 1).astype(int)
    looked = look(table, seen(table, one=one, whole=whole))
    assert looked.contrasts["one"].carrier_ids == (str(table.frame["sample_id"].iloc[5]),)
    assert looked.contrasts["whole"].other_ids == ("",) * 6
    assert all("enough patients" in f.appearance["why"] for f in looked.findings)
    everyone = look(table, seen(table, all=np.ones(N, int))).contrasts["all"]
    assert not everyone.has_both
    nobody = look(table, seen(table, none=np.zeros(N, int)))
    assert nobody.findings[0].appearance == {}
    assert nobody.contrasts == {}


def test_colours_signals_and_volumes(tmp_path):
    rng = np.random.default_rng(3)
    colours = 0.4 + 0.05 * rng.random((N, 3, 24, 24), dtype=np.float32)
    colours[CARRIES == 1, 0] += 0.2
    table = ss.ImageTable.from_arrays(colours, LABELS)
    looked = look(table, seen(table, a=CARRIES))
    assert "warmer" in looked.findings[0].looks or "colour" in looked.findings[0].looks
    assert looked.contrasts["a"].mean_carriers.shape == (24, 24, 3)
    signals = rng.standard_normal((N, 2, 300)).astype(np.float32).cumsum(2)
    signals[CARRIES == 1] += 2 * rng.standard_normal((N // 2, 2, 300)).astype(np.float32)
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(N)], "label": LABELS})
    table = ss.ImageTable.from_arrays(
        signals, frame, dims=1, value_range=(float(signals.min()), float(signals.max()))
    )
    looked = look(table, seen(table, a=CARRIES))
    assert "noisier" in looked.findings[0].looks or "steeper" in looked.findings[0].looks
    assert looked.contrasts["a"].difference.shape == (2, 300)
    volumes = 0.3 * rng.random((N, 1, 8, 20, 20), dtype=np.float32)
    volumes[CARRIES == 1, :, 6] += 0.5
    table = ss.ImageTable.from_arrays(volumes, frame, dims=3)
    sheet = look(table, seen(table, a=CARRIES)).contrasts["a"]
    assert "81%" in sheet.cut  # the middle of the seventh of eight slices
    assert sheet.carriers.mean() > sheet.others.mean() + 50
    np.savez(tmp_path / "x.npz", **sheet.arrays())
    again = ContrastSheet.open(tmp_path / "x.npz")
    assert again.cut == sheet.cut
    assert (again.carriers == sheet.carriers).all()


def test_a_finding_of_a_files_column_is_not_named_after_it():
    table = images().with_columns(file_jpeg_quality=np.where(CARRIES == 1, 60.0, 90.0))
    one = seen(table, a=CARRIES)
    reading = Reading("file_jpeg_quality", "numbers", cuts=(70, 80))
    (finding,) = one.findings
    of_file = Seen([FindingRecord(**{**vars(finding), "reading": reading})], one.concepts, one.scan)
    names = [x["property"] for x in look(table, of_file).findings[0].appearance["properties"]]
    assert "file_jpeg_quality" not in names
    assert "file_jpeg_quality" in [
        x["property"] for x in look(table, one).findings[0].appearance["properties"]
    ]


def test_files_of_different_sizes_and_colours_are_laid_on_one_grid(tmp_path):
    rng = np.random.default_rng(4)
    for k in range(N):
        height, width = rng.integers(20, 60, 2)
        grey = rng.integers(0, 90, (height, width), np.uint8) + np.uint8(100 * CARRIES[k])
        picture = Image.fromarray(grey)
        (picture.convert("RGB") if k % 3 else picture).save(tmp_path / f"{k}.png")
    frame = pd.DataFrame({"image": [f"{k}.png" for k in range(N)], "label": LABELS})
    table = ss.ImageTable.from_frame(frame, root=tmp_path)
    looked = look(table, seen(table, a=CARRIES))
    assert looked.findings[0].looks.startswith("brighter")
    sheet = looked.contrasts["a"]
    assert sheet.carriers.shape == sheet.others.shape
    assert abs(sheet.difference.mean() - 100 / 255) < 0.05


def text_naming():
    return ss.TextNaming(
        image_text_model.SeesBrightness(),
        image_text_model.tokenize,
        list(image_text_model.TEXTS),
        image_text_model.prepare,
    )


def test_texts_name_what_is_localized_and_each_image_is_read_once():
    pictures = 0.3 + 0.1 * np.random.default_rng(0).random((N, 1, 40, 32), dtype=np.float32)
    pictures[CARRIES == 1, :, :7, :7] = 0.9
    table = ss.ImageTable.from_arrays(pictures, LABELS)
    one, texts = seen(table, extent="localized", a=CARRIES, b=LABELS), text_naming().reader()
    looked = with_appearance([one], table, texts=texts, seed=0, workers=0, progress=False)[0]
    named, label = looked.findings
    assert named.looks == "like “a tag in the corner”"
    assert named.title == "a (like “a tag in the corner”)"
    assert named.appearance["text"]["margin"] > 0.2
    assert label.appearance["text"]["why"] == "no label has enough patients with it and without it to compare"
    assert "text" not in look(table, one).findings[0].appearance
