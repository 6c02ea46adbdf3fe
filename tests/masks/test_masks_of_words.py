"""A column of words: masks are drawn on the images with the artifact, however many they are."""

import numpy as np
import pytest

from shortcutscope.errors import InputError
from shortcutscope.masks.annotation import annotate
from shortcutscope.options import Running
from shortcutscope.planting.artifacts import CATALOGUE
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    table = plant(radiographs(120, seed=3), CATALOGUE["tag"], prevalence={0: 0.6, 1: 0.6}, seed=5)
    carries = table.frame["tag"].to_numpy() == 1
    table = table.with_columns(
        mark=np.where(carries, "present", "absent"), side=np.where(carries, "left", "right")
    )
    model = thin_resnet18(width=4, seed=1).eval()
    scanned = scan(
        model,
        table,
        tmp_path_factory.mktemp("scan") / "scan",
        scanning=Scanning(relevance=False),
        running=Running(progress=False),
    )
    return model, scanned, table, carries


def test_c1_masks_are_drawn_where_the_word_says_present(worded, tmp_path):
    model, scanned, table, carries = worded
    assert carries.mean() > 0.55
    (concept,) = Concept.from_column(table.frame, "mark")
    masks = annotate(model, scanned, table, concept, out=tmp_path / "m", running=Running(progress=False))
    drawn = np.array([masks.mask(str(name)).any() for name in concept.sample_ids])
    assert drawn[carries].mean() > 0.9
    assert drawn[~carries].mean() < 0.1


def test_c1_masks_wait_until_it_is_said_which_word_is_the_artifact(worded, tmp_path):
    model, scanned, table, carries = worded
    (concept,) = Concept.from_column(table.frame, "side", symmetric=True)
    with pytest.raises(InputError, match=r"neither 'right' nor 'left'.*--present 'side=right'"):
        annotate(model, scanned, table, concept, out=tmp_path / "m", running=Running(progress=False))
    assert not (tmp_path / "m").exists()
    (said,) = Concept.from_column(table.frame, "side", present="left")
    assert (said.values == carries).all()
