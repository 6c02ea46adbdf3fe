"""Many concepts at many layers in one pass give what each of them gives alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import shortcutscope as ss
from shortcutscope.attribution.hooks import visiting
from shortcutscope.audit.context import Context, ExamineSettings
from shortcutscope.audit.interventions import use_and_extent
from shortcutscope.audit.interventions.rerun import ConceptEdit, Look, rerun
from shortcutscope.models.frozen import frozen
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.probes.extent.cells import cell_features
from shortcutscope.probes.extent.measuring import input_cells
from shortcutscope.probes.usage import Projections, fit_projection
from shortcutscope.scan.capture import forward_edited
from shortcutscope.scan.scanner import scan

RUNNING = ss.Running(progress=False, batch_size=16)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    images = rng.random((60, 1, 32, 32)).astype(np.float32)
    columns = {"label": np.arange(60) % 2, "a": rng.integers(0, 2, 60), "b": rng.integers(0, 2, 60)}
    images[columns["a"] == 1, :, :6, :6] = 1
    import pandas as pd

    return ss.ImageTable.from_arrays(images, pd.DataFrame(columns))


@pytest.fixture(scope="module")
def scanned(table, tmp_path_factory):
    return scan(thin_resnet18(width=4), table, tmp_path_factory.mktemp("scan") / "scan", running=RUNNING)


@pytest.fixture
def context(table, scanned):
    with frozen(thin_resnet18(width=4)) as model:
        settings = ExamineSettings.of(ss.Statistics(), RUNNING, scanned.head)
        yield Context.of(model, scanned, table, None, None, settings)


def test_every_edit_gives_what_it_gives_alone(table, scanned, context):
    rng, edits = np.random.default_rng(1), []
    for layer in scanned.layers:
        for name in "ab":
            values = table.frame[name].to_numpy(float)
            rows = np.sort(rng.permutation(60)[:25])
            one = fit_projection(scanned.activation(layer), values, context.labels)
            other = replace(one, middle=one.middle + 1)
            edits.append(ConceptEdit(name, layer, [(rows[::2], one), (rows[1::2], other)]))
    found = rerun(context, edits).logits
    assert set(found) == {(name, layer.name) for name in "ab" for layer in scanned.layers}
    x = torch.stack([table[i][0] for i in range(60)])
    for edit in edits:
        slow = torch.cat(
            [
                forward_edited(
                    context.model,
                    x[rows],
                    edit.layer,
                    Projections([one]).edit(torch.zeros(len(rows), dtype=torch.int64)),
                )
                for rows, one in edit.halves
            ]
        )
        torch.testing.assert_close(found[edit.concept, edit.layer.name], slow, atol=1e-4, rtol=1e-4)


def test_looks_collect_the_cells_and_responses_of_their_own_samples(table, scanned, context):
    layer, rng = scanned.layers[0], np.random.default_rng(2)
    looks = [
        Look(name, np.sort(rng.permutation(60)[:n]), {layer.name: rng.standard_normal((n, layer.channels))})
        for name, n in (("a", 20), ("b", 33))
    ]
    found = rerun(context, [], looks)
    x = torch.stack([table[i][0] for i in range(60)])
    outputs = {}

    def keep(layer, values):
        outputs[layer.name] = values.clone()

    with torch.no_grad(), visiting(context.model, scanned.layers[:3], keep):
        context.model(x)
    for look in looks:
        features = found.features(look.concept)
        np.testing.assert_allclose(features.inputs, input_cells(x[look.rows]).numpy(), atol=1e-5)
        for name, values in outputs.items():
            np.testing.assert_allclose(features.layers[name], cell_features(values[look.rows]), atol=1e-4)
        maps = outputs[layer.name][look.rows].flatten(2).numpy()
        along = np.einsum("nc,ncp->np", look.vectors[layer.name], maps)
        np.testing.assert_allclose(features.responses[layer.name], along, atol=1e-3)


def test_concepts_that_do_not_fit_at_once_take_turns_and_end_the_same(table, tmp_path, monkeypatch):
    options = {"concepts": ["a", "b"], "discover": False, "running": RUNNING,
               "statistics": ss.Statistics(n_permutations=50, n_bootstrap=50)}  # fmt: skip
    together = ss.audit(thin_resnet18(width=4), table, tmp_path / "one", **options)
    monkeypatch.setattr(use_and_extent, "HELD", 1)
    monkeypatch.setattr(use_and_extent, "EXTENT_SAMPLES", 48)
    few = ss.audit(thin_resnet18(width=4), table, tmp_path / "two", **options)
    assert [f.name for f in few.findings] == [f.name for f in together.findings]
    for one, two in zip(together.findings, few.findings, strict=True):
        assert one.used == two.used


def test_the_curve_is_measured_where_use_may_be_more_than_nothing(table, tmp_path, monkeypatch):
    options = {"concepts": ["a"], "discover": False, "running": RUNNING,
               "statistics": ss.Statistics(n_permutations=50, n_bootstrap=50)}  # fmt: skip
    for near, points in ((0.0, 1 + use_and_extent.ELSEWHERE_LAYERS), (1e9, 1)):
        monkeypatch.setattr(use_and_extent, "NEAR", near)
        audit = ss.audit(thin_resnet18(width=4), table, tmp_path / str(near), **options)
        assert audit["a"].encoded["value"]
        measured = audit.profile.set_index("layer")["use"].notna()
        assert measured.sum() == points
        assert measured.iloc[-1]


@pytest.mark.parametrize(("n", "places"), [(1, []), (2, [0]), (5, [0, 1, 2, 3]), (17, [0, 5, 10, 15])])
def test_the_curve_is_spread_over_the_depth(n, places):
    assert use_and_extent.curve_layers(range(n)) == places
