"""Detectors that draw masks: of every fold there is one, or the marks are refused."""

import numpy as np
import pytest
from stamped import stamped

from shortcutscope.data.file_images import in_file_size
from shortcutscope.errors import InputError
from shortcutscope.retrieval.detecting import detection
from shortcutscope.retrieval.detecting.detection import Search, Where
from shortcutscope.retrieval.detecting.teaching import teach

CARRIERS, OTHERS = list(range(8)), list(range(30, 38))


@pytest.fixture(scope="module")
def made():
    return stamped()


def boxed(made, carriers):
    return Where({row: [made.boxes[row]] for row in carriers}, carriers, OTHERS)


def test_marks_without_boxes_are_refused(made):
    images, groups = in_file_size(made.table), made.table.frame["group"]
    with pytest.raises(InputError, match="taught by boxes"):
        teach(images, Where({}, CARRIERS, OTHERS), groups, progress=False)


def test_carriers_of_two_patients_that_would_share_a_fold_are_dealt_to_two(made, monkeypatch):
    images, carriers = in_file_size(made.table), CARRIERS[:4]
    groups = made.table.frame["group"].to_numpy().astype(object)
    groups[carriers], groups[OTHERS[0]] = ["one", "one", "one", "two"], "two"
    as_usual = Search(images, boxed(made, carriers), groups, 0).folds()
    monkeypatch.setattr(detection, "grouped_folds", lambda groups, *_: np.zeros(len(groups), np.intp))
    dealt = Search(images, boxed(made, carriers), groups, 0).folds()
    for folds in (as_usual, dealt):
        assert len({folds[row] for row in carriers}) == 2
        assert len({folds[row] for row in carriers[:3]}) == 1
        assert folds[3] == folds[OTHERS[0]]
    taught = teach(images, boxed(made, carriers), groups, progress=False)
    assert {taught.fold(row) for row in range(len(images))} <= set(taught.detectors)


@pytest.mark.parametrize("seed", range(3))
def test_few_patients_leave_no_fold_without_a_detector(made, seed):
    generator = np.random.default_rng(seed)
    groups = made.table.frame["group"].to_numpy().astype(object)
    images = in_file_size(made.table)
    for _ in range(40):
        carriers = CARRIERS[: generator.integers(3, 6)]
        groups[carriers] = generator.integers(0, 3, len(carriers)).astype(str)
        groups[OTHERS] = generator.integers(0, 5, len(OTHERS)).astype(str)
        if len(set(groups[carriers])) == 1:
            continue
        search = Search(images, boxed(made, carriers), groups, seed)
        folds = search.folds()
        searched = search.kinds_by_fold(folds, search.kinds(search.taught))
        assert set(searched) == {detection.ALL, *folds.values()}
