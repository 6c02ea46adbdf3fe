"""Masks by boxes: right, resumable, checked on the marked images, and refused before any work."""

import numpy as np
import pytest
from stamped import stamped

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError, StaleRunError
from shortcutscope.masks.boxed import rival
from shortcutscope.masks.boxed.annotating import Asked, annotate_boxed
from shortcutscope.masks.boxed.held_out import HeldOutFigures
from shortcutscope.masks.heat import heat_map
from shortcutscope.masks.learning import Drawing
from shortcutscope.masks.maskset import MaskSet
from shortcutscope.masks.writer import MaskWriter
from shortcutscope.options import Running
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.retrieval.marks import Marks

QUIET = Running(progress=False)
MODEL = thin_resnet18(width=4, seed=1)


@pytest.fixture(scope="module")
def made():
    return stamped(n=64, share=0.3, seed=4)


def names(made):
    return made.table.frame["sample_id"].tolist()


def marks(made, boxed=7, others=8):
    ids = names(made)
    return Marks.of(
        ids[:boxed], ids[-others:] if others else [], {ids[k]: [tuple(made.boxes[k])] for k in range(boxed)}
    )


def asked(folder, rows, **options):
    return Asked("stamps", rows, folder, Drawing(), **options)


@pytest.fixture(scope="module")
def drawn(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("boxed") / "stamps"
    some = annotate_boxed(MODEL, made.table, marks(made), asked(out, [3, 50], heat=True), QUIET)
    assert len(some) == 2
    rows = asked(out, range(len(made.table)), heat=True)
    return annotate_boxed(MODEL, made.table, marks(made), rows, QUIET)


def test_stamps_of_unmarked_images_are_drawn_at_the_size_of_the_files(made, drawn):
    share, false = [], []
    for row, name in enumerate(names(made)):
        mask = drawn.mask(name)
        assert mask.shape == (96, 96)  # the network sees 24 x 24
        if made.carries[row] and row >= 7:
            x0, y0, x1, y1 = made.boxes[row].astype(int)
            share.append(mask[y0:y1, x0:x1].sum() / max(1, mask.sum()))
        elif not made.carries[row]:
            false.append(mask.any())
    assert np.mean(share) > 0.8
    assert np.mean(false) <= 0.1


def test_what_is_drawn_is_checked_on_the_marked_images_and_kept(made, drawn):
    figures = HeldOutFigures.open(drawn.folder)
    assert figures.carriers == 7
    assert figures.others == 8
    assert figures.carriers_drawn >= 6
    assert figures.others_drawn <= 1
    assert figures.inside > 0.7
    assert drawn.provenance["method"] == "boxes"
    carrier = next(e.sample_id for e in drawn.entries if not e.empty)
    assert (heat_map(drawn, carrier) > 0).sum() == drawn.entry(carrier).area


def test_masks_go_on_where_they_were_interrupted_and_only_with_the_same_marks(made, drawn):
    ids = names(made)
    assert drawn.sample_ids == [ids[3], ids[50], *(name for name in ids if name not in (ids[3], ids[50]))]
    again = asked(drawn.folder, [3, 50], heat=True)
    same = annotate_boxed(MODEL, made.table, marks(made), again, QUIET)  # nothing is learnt for it
    assert same.entries == drawn.entries
    with pytest.raises(StaleRunError, match="marks"):
        annotate_boxed(MODEL, made.table, marks(made, 6), again, QUIET)


def test_masks_are_exported_as_any_others(drawn, tmp_path):
    path = drawn.export(tmp_path / "png", "png")
    assert len(list(path.iterdir())) >= len(drawn)


def test_boxes_that_say_nothing_are_refused_before_anything_is_read(made, tmp_path):
    def refused(given, match):
        with pytest.raises(InputError, match=match):
            annotate_boxed(MODEL, made.table, given, asked(tmp_path / "m", [0]), QUIET)
        assert not (tmp_path / "m").exists()

    ids = names(made)
    refused(marks(made, 2), "too few")
    outside = {ids[k]: [(90, 90, 99, 99)] for k in range(5)}
    refused(Marks.of(ids[:5], [], outside), "'s0' lies outside its image of 96 x 96")
    refused(Marks.of(ids[:5], [], {ids[k]: [(0, 0, 96, 96)] for k in range(5)}), "do not say where")


def test_boxes_on_signals_are_refused(tmp_path):
    signals = np.random.default_rng(0).normal(size=(6, 2, 40)).astype(np.float32)
    table = ImageTable.from_arrays(signals, [0, 1] * 3, dims=1)
    ids = table.frame["sample_id"].tolist()
    given = Marks.of(ids[:4], [], {name: [(0, 0, 3, 1)] for name in ids[:4]})
    with pytest.raises(InputError, match="boxes are taken on images"):
        annotate_boxed(MODEL, table, given, asked(tmp_path / "m", [0]), QUIET)


@pytest.mark.slow
def test_boxes_that_are_not_told_apart_draw_nothing(made, tmp_path):
    ids, generator = names(made), np.random.default_rng(0)
    anywhere = {name: [(*(corner := generator.integers(0, 80, 2)), *(corner + 9))] for name in ids[40:48]}
    given = Marks.of(ids[40:48], ids[50:60], anywhere)
    with pytest.raises(InputError, match="no better than chance"):
        annotate_boxed(MODEL, made.table, given, asked(tmp_path / "m", [0]), QUIET)


@pytest.mark.slow
def test_the_evidence_of_a_finding_draws_where_it_is_better(made, tmp_path, monkeypatch):
    monkeypatch.setattr(rival, "MARGIN", -2.0)

    def draw(samples, folder):
        with MaskWriter(folder, "stamps", {"method": "fusion"}) as writer:
            for name in samples:
                if not writer.done(name):
                    writer.append(name, np.zeros((96, 96), bool))
        return MaskSet.open(folder)

    rows = asked(tmp_path / "m", [0, 60], rival=rival.Rival(draw))
    masks = annotate_boxed(MODEL, made.table, marks(made), rows, QUIET)
    assert masks.provenance["method"] == "fusion"
    assert HeldOutFigures.open(masks.folder).way == "evidence"
    again = annotate_boxed(MODEL, made.table, marks(made), rows, QUIET)  # as it was begun
    assert again.entries == masks.entries
