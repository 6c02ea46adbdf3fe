import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shortcutscope.data.readers.orientation import Orientation
from shortcutscope.errors import InputError, StaleRunError
from shortcutscope.masks.mask_files import Assessment, mask_file
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter

PROVENANCE = {"model": "f" * 64, "layers": ["layer1", "layer3"], "concept": "ruler", "threshold": 0.37}


def disc(size, radius=3, centre=None):
    rows, columns = np.indices(size)
    y, x = centre or (size[0] // 2, size[1] // 3)
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


@pytest.fixture
def masks(tmp_path):
    with MaskWriter(tmp_path / "ruler", "ruler", PROVENANCE) as writer:
        writer.append("a/1.png", disc((12, 17)), image="1.png", assessment=Assessment(confidence=0.9))
        writer.append("b", np.zeros((9, 5), dtype=bool), assessment=Assessment(confidence=0.1, flagged=True))
        turn = Orientation.from_exif(6)
        writer.append("C", disc((20, 8), 2), orientation=turn, assessment=Assessment(accepted=True))
    return MaskSet.open(tmp_path / "ruler")


def test_masks_come_back_one_at_a_time_with_what_is_known_of_them(masks):
    assert len(masks) == 3
    assert [name for name, _ in masks] == ["a/1.png", "b", "C"] == masks.sample_ids
    assert np.array_equal(masks.mask("a/1.png"), disc((12, 17)))
    assert not masks.mask("b").any()
    frame = masks.to_frame().set_index("sample_id")
    assert frame["empty"].tolist() == [False, True, False]
    assert frame["flagged"].tolist() == [False, True, False]
    assert frame["accepted"].tolist() == [None, None, True]
    assert frame.loc["a/1.png", "confidence"] == 0.9
    assert frame.loc["C", "size"] == (20, 8)
    assert masks.provenance["layers"] == ["layer1", "layer3"]
    assert masks.provenance["version"]
    assert "b" in masks
    assert "x" not in masks


def test_the_list_is_in_cocos_form_and_the_pictures_are_plain(masks):
    told = json.loads((masks.folder / "masks.json").read_text())
    assert told["info"]["shortcutscope"]["model"] == PROVENANCE["model"]
    assert [image["file_name"] for image in told["images"]] == ["1.png", "b", "C"]
    assert (told["images"][0]["height"], told["images"][0]["width"]) == (12, 17)
    assert {a["image_id"] for a in told["annotations"]} == {1, 3}
    rows, columns = np.nonzero(disc((12, 17)))
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert told["annotations"][0]["bbox"] == [columns.min(), rows.min(), width, height]
    with Image.open(masks.folder / told["images"][0]["mask_file"]) as picture:
        assert np.array_equal(np.asarray(picture), disc((12, 17)) * 255)
        assert json.loads(picture.text["shortcutscope"])["sample_id"] == "a/1.png"


def test_the_stored_frame_of_a_turned_photograph(masks):
    stored = masks.in_frame("stored")
    assert stored.size("C") == (8, 20)
    assert np.array_equal(stored.mask("C"), np.rot90(disc((20, 8), 2)))
    assert np.array_equal(stored.mask("a/1.png"), masks.mask("a/1.png"))
    with pytest.raises(InputError, match="frame"):
        masks.in_frame("sideways")  # type: ignore[arg-type]


def test_areas_and_the_mean_mask(masks):
    areas = masks.areas()
    assert areas[0] == disc((12, 17)).mean()
    assert areas[1] == 0
    counts, edges = masks.area_histogram(bins=4)
    assert counts.sum() == 2
    assert edges[-1] == areas.max()
    mean = masks.mean_mask((24, 34))
    assert mean.shape == (24, 34)
    assert mean.max() <= 1
    assert mean.mean() == pytest.approx(areas[areas > 0].mean(), rel=0.1)
    only = masks.take(["a/1.png"]).mean_mask((12, 17))
    assert np.array_equal(only > 0.5, disc((12, 17)))
    with pytest.raises(InputError, match="empty"):
        masks.take(["b"]).mean_mask()


def test_review_is_kept_on_the_disk(masks):
    told = masks.take(["b"]).reviewed({"b": False})
    assert told.entry("b").accepted is False
    again = MaskSet.open(masks.folder)
    assert [entry.accepted for entry in again.entries] == [None, False, True]
    assert len(again.where(lambda mask: mask.accepted is not False)) == 2
    assert again.reviewed({"b": None}).entry("b").accepted is None
    with pytest.raises(InputError, match="no mask of sample 'x'"):
        masks.reviewed({"x": True})
    with pytest.raises(InputError, match="True, False or None"):
        masks.reviewed({"b": "maybe"})  # type: ignore[dict-item]


def test_shown_in_words_and_escaped(tmp_path):
    with MaskWriter(tmp_path / "m", "<b>tag</b>") as writer:
        writer.append("<i>", disc((9, 9)))
    masks = MaskSet.open(tmp_path / "m")
    assert "masks: 1" in repr(masks)
    assert "<i>" not in masks._repr_html_()
    assert "&lt;b&gt;tag" in masks._repr_html_()


def test_volumes_and_signals(tmp_path):
    volume = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    signal = np.zeros((12, 300), dtype=bool)
    signal[3, 50:80] = True
    with MaskWriter(tmp_path / "m", "pacing") as writer:
        writer.append("v", volume)
        writer.append("s", signal, kind="signal")
    masks = MaskSet.open(tmp_path / "m")
    assert np.array_equal(masks.mask("v"), volume)
    assert np.array_equal(masks.mask("s"), signal)
    assert [entry.kind for entry in masks.entries] == ["volume", "signal"]
    assert masks.take(["v"]).mean_mask((2, 2, 2)).shape == (2, 2, 2)
    with pytest.raises(InputError, match="number of axes"):
        masks.mean_mask()


def test_an_interrupted_writer_goes_on(tmp_path):
    folder = tmp_path / "m"

    def interrupted():
        with MaskWriter(folder, "tag", PROVENANCE) as writer:
            writer.append("1", disc((9, 9)))
            writer.append("2", disc((9, 9), 2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    half = MaskSet.open(folder)
    assert not half.complete
    assert half.sample_ids == ["1", "2"]
    assert "unfinished" in repr(half)
    with pytest.raises(InputError, match="not finished"):
        half.reviewed({"1": True})
    with (folder / "masks.jsonl").open("ab") as journal:
        journal.write(b'{"sample_id": "3", "torn')
    with MaskWriter(folder, "tag", PROVENANCE) as writer:
        assert writer.done("2")
        assert not writer.done("3")
        writer.append("3", disc((9, 9), 4))
    whole = MaskSet.open(folder)
    assert whole.complete
    assert whole.sample_ids == ["1", "2", "3"]
    with MaskWriter(folder, "tag", PROVENANCE) as writer:
        writer.append("4", disc((7, 9)))
    assert MaskSet.open(folder).sample_ids == ["1", "2", "3", "4"]


@settings(max_examples=25, deadline=None)
@given(cut=st.integers(0, 3000))
def test_a_journal_cut_anywhere_loses_whole_masks_only(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("cut") / "m"
    writer = MaskWriter(folder, "tag")
    expected = {str(k): np.random.default_rng(k).random((4, 6)) > 0.5 for k in range(5)}
    for name, mask in expected.items():
        writer.append(name, mask)
    writer.__exit__(KeyboardInterrupt, None, None)
    journal = folder / "masks.jsonl"
    head = journal.read_bytes().index(b"\n") + 1
    kept = journal.read_bytes()[: head + cut]
    journal.write_bytes(kept)
    with MaskWriter(folder, "tag") as writer:
        assert len(writer) == min(5, kept.count(b"\n") - 1)
        for name, mask in expected.items():
            if not writer.done(name):
                writer.append(name, mask)
    masks = MaskSet.open(folder)
    assert masks.sample_ids == list(expected)
    assert all(np.array_equal(mask, expected[name]) for name, mask in masks)


def test_other_inputs_and_other_folders_are_refused(masks, tmp_path):
    with pytest.raises(StaleRunError, match="threshold"):
        MaskWriter(masks.folder, "ruler", {**PROVENANCE, "threshold": 0.5})
    with pytest.raises(StaleRunError, match="finding"):
        MaskWriter(masks.folder, "tube", PROVENANCE)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="not empty"):
        MaskWriter(tmp_path / "other", "ruler")
    with pytest.raises(InputError, match="holds no masks"):
        MaskSet.open(tmp_path / "other")


@pytest.mark.parametrize(
    ("mask", "options", "text"),
    [
        (np.array([[0.2, 1.0]]), {}, "False and True"),
        (np.ones(4, dtype=bool), {}, r"\(4,\)"),
        (np.ones((2, 0), dtype=bool), {}, r"\(2, 0\)"),
        (np.ones((2, 2), dtype=bool), {"kind": "volume"}, "volume"),
        (np.ones((2, 2), dtype=bool), {"kind": "film"}, "film"),
        (np.ones((2, 2), dtype=bool), {"assessment": Assessment(1.2)}, "between 0 and 1"),
        (np.ones((2, 2, 2), dtype=bool), {"orientation": Orientation.from_exif(3)}, "orientation"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, mask, options, text):
    with MaskWriter(tmp_path / "m", "tag") as writer:
        with pytest.raises(InputError, match=text):
            writer.append("a", mask, **options)
        writer.append("a", np.ones((2, 2), dtype=int))
        with pytest.raises(InputError, match="already"):
            writer.append("a", np.ones((2, 2), dtype=int))
    with pytest.raises(InputError, match="finished"):
        writer.append("b", np.ones((2, 2), dtype=int))


def test_broken_files_are_named(masks):
    path = masks.folder / masks.entry("b").file
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(path)
    with pytest.raises(InputError, match=r"b\.png.*\(4, 4\).*\(9, 5\)"):
        masks.mask("b")
    Image.fromarray(np.full((9, 5), 3, dtype=np.uint8)).save(path)
    with pytest.raises(InputError, match=r"b\.png.*largest value is 3"):
        masks.mask("b")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"b\.png"):
        masks.mask("b")
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        masks.mask("b")
    for text in ("{}", "[", '{"images": [{}], "categories": [{"name": 1}], "info": {}}'):
        (masks.folder / "masks.json").write_text(text)
        with pytest.raises(InputError, match=r"masks\.json"):
            MaskSet.open(masks.folder)


@given(names=st.sets(st.text(min_size=1, max_size=140), max_size=12))
def test_file_names_are_apart_and_plain(names):
    files = {mask_file(name, "image") for name in names}
    assert len({file.lower() for file in files}) == len(names)
    assert all(file.isascii() and "/" not in file and len(file) < 130 for file in files)


def test_unknown_formats_are_refused(masks, tmp_path):
    with pytest.raises(InputError, match="coco, cvat"):
        masks.export(tmp_path / "x", format="gif")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "/etc/hostname",
        "sub/../../secret.png",
        "..\\secret.png",
        "C:/secret.png",
        "",
        "link.png",
    ],
)
def test_r6_files_outside_of_the_folder_are_not_read(tmp_path, name):
    with MaskWriter(tmp_path / "set", "tag") as writer:
        writer.append("a", np.ones((4, 4), bool))
    (tmp_path / "secret.png").write_bytes((tmp_path / "set" / "a.png").read_bytes())
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    manifest = tmp_path / "set" / "masks.json"
    told = json.loads(manifest.read_text())
    told["images"][0]["mask_file"] = name
    manifest.write_text(json.dumps(told))
    with pytest.raises(InputError, match="which lies outside of it"):
        MaskSet.open(tmp_path / "set")


def test_r6_a_folder_that_is_itself_a_link_is_read(tmp_path):
    with MaskWriter(tmp_path / "set", "tag") as writer:
        writer.append("a", np.ones((4, 4), bool))
    (tmp_path / "other").symlink_to(tmp_path / "set")
    assert MaskSet.open(tmp_path / "other").mask("a").all()


def test_r5_masks_that_are_too_large_are_refused(tmp_path):
    with MaskWriter(tmp_path / "set", "tag") as writer:
        writer.append("a", np.ones((4, 4), bool))
    with pytest.raises(InputError, match=r"mask of 'a'.*4 x 4, 16 values, and the limit is 15"):
        MaskSet.open(tmp_path / "set", max_pixels=15)
    told = json.loads((tmp_path / "set" / "masks.json").read_text())
    for size in ([10**6, 10**6], [0, 4], [4], [-4, -4]):
        told["images"][0]["size"] = size
        (tmp_path / "set" / "masks.json").write_text(json.dumps(told))
        with pytest.raises(InputError, match=r"mask|size"):
            MaskSet.open(tmp_path / "set")
