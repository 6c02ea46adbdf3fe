import numpy as np

from shortcutscope.masks.boxed.held_out import HeldOutFigures, held_out


def test_counts_and_share_inside_the_boxes(tmp_path):
    mask, empty = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    mask[2:4, 2:6] = True
    figures = held_out(
        [(mask, [(2, 2, 4, 4), (8, 8, 10, 10)]), (empty, [(0, 0, 1, 1)])], [empty, mask], null=40
    )
    assert (figures.carriers, figures.carriers_drawn, figures.others, figures.others_drawn) == (2, 1, 2, 1)
    assert (figures.elements, figures.elements_touched) == (3, 1)
    assert figures.inside == 0.5
    assert "1 of 2 carriers got a mask, 1 of 2 others did; 1 of 3 boxes are touched, 50%" in str(figures)
    figures.save(tmp_path)
    assert HeldOutFigures.open(tmp_path) == figures
    assert HeldOutFigures.open(tmp_path / "elsewhere") is None


def test_nothing_drawn_has_no_share():
    empty = np.zeros((4, 4), bool)
    assert held_out([(empty, [(0, 0, 2, 2)])], [], null=20).inside is None
