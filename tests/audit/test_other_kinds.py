"""Of discovered concepts alone it is asked whether their carriers are another kind of image."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from shortcutscope.audit.other_kinds import other_kinds
from shortcutscope.data.table import ImageTable
from shortcutscope.probes.association import associate
from shortcutscope.probes.concept import Concept

N, SIDE = 120, 40
TRUTH = np.arange(N) % 2
WRONG = np.arange(N) % 12 < 2
LABELS = np.where(WRONG, 1 - TRUTH, TRUTH)
IDS = np.array([f"s{i}" for i in range(N)])


def images(kinds):
    """Pictures of two kinds, that differ in shape and texture, or of one."""
    rng = np.random.default_rng(0)
    shapes = [gaussian_filter(rng.random((SIDE, SIDE)), 4, mode="wrap") for _ in range(2)]
    for kind in TRUTH if kinds == 2 else np.zeros(N, int):
        own = gaussian_filter(rng.random((SIDE, SIDE)), 4, mode="wrap")
        picture = 0.5 + 4 * (shapes[kind] - 0.5) + 2 * (own - 0.5) + 0.02 * rng.standard_normal((SIDE, SIDE))
        yield gaussian_filter(picture, 0.8 * kind)[None]


def context(kinds):
    frame = pd.DataFrame({"sample_id": IDS, "label": LABELS, "group": IDS})
    table = ImageTable.from_arrays(
        np.stack(list(images(kinds))).astype(np.float32), frame, value_range=(0, 1)
    )
    scan = SimpleNamespace(samples=frame, margin=lambda positive: (2.0 * TRUTH - 1) * np.linspace(1, 2, N))
    run = SimpleNamespace(cached=lambda stage, name, depends, compute: compute())
    settings = SimpleNamespace(verdict=SimpleNamespace(smallest_phi=0.1), seed=0)
    return SimpleNamespace(
        settings=settings,
        run=run,
        scan=scan,
        table=table,
        labels=LABELS,
        groups=np.arange(N),
        order=np.arange(N),
        depends=lambda concept: {},
    )


CONCEPT = Concept("discovered 1", TRUTH.astype(float), "discovered", IDS)
ASSOCIATIONS = {"discovered 1": associate(TRUTH.astype(float), LABELS, np.arange(N), n_bootstrap=2)}


@pytest.mark.parametrize(("kinds", "another"), [(2, True), (1, False)])
def test_s5_the_labels_that_go_against_another_kind_are_named_first(kinds, another):
    said = other_kinds(context(kinds), [CONCEPT], {"discovered 1": 0.9}, ASSOCIATIONS)["discovered 1"]
    assert said["figures"]["is_another"] is another
    # The surer the network is of the other label, the sooner it is to be read.
    assert said["against"] == (IDS[WRONG][::-1].tolist() if another else [])


def test_what_a_person_named_or_is_used_the_other_way_is_not_asked_about():
    named = replace(CONCEPT, origin="metadata")
    assert other_kinds(context(2), [named], {"discovered 1": 0.9}, ASSOCIATIONS) == {}
    assert other_kinds(context(2), [CONCEPT], {"discovered 1": -0.9}, ASSOCIATIONS) == {}
    assert other_kinds(context(2), [CONCEPT], {}, ASSOCIATIONS) == {}
