import numpy as np
import pytest
from stamped import stamped

from shortcutscope.data.file_images import in_file_size
from shortcutscope.errors import InputError
from shortcutscope.retrieval.detecting.detection import Where, detect
from shortcutscope.stats.metrics import auroc

CARRIERS, OTHERS = list(range(8)), list(range(30, 38))


@pytest.fixture(scope="module")
def made():
    return stamped()


@pytest.fixture(scope="module")
def boxed(made):
    boxes = {row: [made.boxes[row]] for row in CARRIERS}
    where = Where(boxes, CARRIERS, OTHERS)
    return detect(in_file_size(made.table), where, made.table.frame["group"], progress=False)


@pytest.fixture(scope="module")
def mined(made):
    where = Where({}, CARRIERS, OTHERS)
    return detect(in_file_size(made.table), where, made.table.frame["group"], progress=False)


@pytest.mark.parametrize("kind", ["boxed", "mined"])
def test_eight_marks_find_the_stamp_and_its_place(made, kind, request):
    found = request.getfixturevalue(kind)
    assert auroc(made.carries.astype(float), found.scores) > 0.95
    rows = np.flatnonzero(made.carries)
    assert np.mean([made.inside(row, found.places[row]) for row in rows]) > 0.85
    assert found.mined == (kind == "mined")
    for row, box in found.kinds[0]:
        assert row in CARRIERS
        assert made.inside(row, box)


def test_no_sample_is_scored_by_a_detector_that_saw_its_mark(made, boxed):
    """A mark on a sample that shows nothing is not found in it."""
    boxes = {row: [made.boxes[row]] for row in CARRIERS} | {40: [(20, 20, 33, 29)]}
    where = Where(boxes, [*CARRIERS, 40], OTHERS)
    found = detect(in_file_size(made.table), where, made.table.frame["group"], progress=False)
    assert found.scores[40] < np.median(found.scores[CARRIERS])


def test_the_same_seed_gives_the_same_scores(made, boxed):
    boxes = {row: [made.boxes[row]] for row in CARRIERS}
    again = detect(
        in_file_size(made.table), Where(boxes, CARRIERS, OTHERS), made.table.frame["group"], progress=False
    )
    assert (again.scores == boxed.scores).all()


def test_marks_of_one_patient_are_refused(made):
    boxes = {row: [made.boxes[row]] for row in CARRIERS}
    groups = np.where(made.carries, "one", made.table.frame["sample_id"])
    with pytest.raises(InputError, match="one patient"):
        detect(in_file_size(made.table), Where(boxes, CARRIERS, OTHERS), groups, progress=False)
