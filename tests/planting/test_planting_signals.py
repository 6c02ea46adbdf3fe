"""Planting into signals; what holds for any table is tested on images in test_planting.py."""

import pickle

import numpy as np
import pytest
import torch

from shortcutscope.data.table import ImageTable
from shortcutscope.errors import InputError
from shortcutscope.planting.artifacts import SIGNALS, get_artifact
from shortcutscope.planting.phantoms import ecgs, radiographs
from shortcutscope.planting.planting import artifact_mask, clean_twin, everywhere, plant, triad

NAMES = sorted(SIGNALS)


@pytest.fixture(scope="module")
def table():
    return ecgs(40, seed=1)


def signals(table):
    return np.stack([table.image(i).numpy() for i in range(len(table))])


@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_carriers_are_changed_and_the_twin_is_the_table_before(table, name):
    planted = plant(table, get_artifact(name), correlation=0.8)
    changed = (signals(planted) != signals(table)).any(axis=(1, 2))
    np.testing.assert_array_equal(changed, planted.frame[name] == 1)
    twin = clean_twin(planted)
    np.testing.assert_array_equal(signals(twin), signals(table))
    assert twin.fingerprint() == table.fingerprint() != planted.fingerprint()
    planted.verify(progress=False)


@pytest.mark.parametrize("name", NAMES)
def test_masks_are_by_lead_and_time_and_hold_all_that_changed(table, name):
    planted = plant(table, get_artifact(name))
    for i in range(len(table)):
        mask = artifact_mask(planted, i)
        assert mask.dtype == torch.bool
        assert mask.shape == (12, 400)
        assert mask.any() == bool(planted.frame[name][i])
        change = (planted.image(i) - table.image(i)).abs()
        assert not change[~mask].gt(0.02).any()
        assert change[mask].gt(0.001).all()


def test_a_subset_and_a_pickle_have_the_same_artifacts(table):
    planted = plant(table, get_artifact("static_noise"), seed=4)
    rows = np.array([31, 2, 17, 5])
    np.testing.assert_array_equal(signals(planted.take(rows)), signals(planted)[rows])
    np.testing.assert_array_equal(signals(pickle.loads(pickle.dumps(planted))), signals(planted))


def test_everywhere_and_the_triad(table):
    sets = triad(table, get_artifact("defective_lead"), correlation=0.9, seed=3)
    counts = {k: t.frame.groupby("label")["defective_lead"].sum().to_dict() for k, t in sets.items()}
    assert counts == {
        "correlated": {0: 2, 1: 18},
        "balanced": {0: 10, 1: 10},
        "inverted": {0: 18, 1: 2},
    }
    full = signals(everywhere(sets["balanced"], "defective_lead"))
    for planted in sets.values():
        carriers = planted.frame["defective_lead"] == 1
        np.testing.assert_array_equal(signals(planted)[carriers], full[carriers])


def test_artifacts_of_signals_can_be_stacked(table):
    both = plant(plant(table, get_artifact("baseline_drift")), get_artifact("amplified_beat"))
    np.testing.assert_array_equal(
        signals(clean_twin(both, "baseline_drift")), signals(plant(table, get_artifact("amplified_beat")))
    )
    i = both.frame.eval("baseline_drift == 1 and amplified_beat == 1").to_numpy().nonzero()[0][0]
    parts = [artifact_mask(both, i, name) for name in ("baseline_drift", "amplified_beat")]
    assert torch.equal(artifact_mask(both, i), parts[0] | parts[1])


def test_images_and_signals_are_not_mixed_up(table):
    with pytest.raises(InputError, match="'tag' is an artifact of images, but the table has signals"):
        plant(table, get_artifact("tag"))
    with pytest.raises(
        InputError, match="'static_noise' is an artifact of signals, but the table has images"
    ):
        plant(radiographs(4), get_artifact("static_noise"))
    many_leads = ImageTable.from_arrays(np.zeros((4, 64, 128), np.float32), [0, 1, 0, 1], dims=1)
    with pytest.raises(InputError, match="'tag' is an artifact of images"):
        plant(many_leads, get_artifact("tag"))
    volumes = ImageTable.from_arrays(np.zeros((4, 1, 8, 64, 64), np.float32), [0, 1, 0, 1])
    with pytest.raises(InputError, match=r"\(L,\) and \(C, L\)"):
        plant(volumes, get_artifact("static_noise"))
