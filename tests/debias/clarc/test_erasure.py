from __future__ import annotations

import numpy as np
import pytest
import torch
from model_states import model_state
from scipy.linalg import pinv, sqrtm
from sklearn.linear_model import LinearRegression

from shortcutscope.debias.clarc.activations import ConceptSamples, pooled_activations
from shortcutscope.debias.clarc.erasure import Moments, concept_columns, leace, leace_map
from shortcutscope.debias.clarc.projection import Projected
from shortcutscope.debias.problem import DebiasProblem
from shortcutscope.debias.training.fit import Training
from shortcutscope.errors import InputError
from shortcutscope.models.layers import find_layers
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.planting.phantoms import radiographs
from shortcutscope.planting.planting import plant
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.types import Floats


def samples(seed: int, n: int = 300, channels: int = 7) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(seed)
    z = (generator.random(n) < 0.4).astype(float)[:, None]
    x = generator.normal(size=(n, channels)) @ generator.normal(size=(channels, channels))
    return x + z * generator.normal(size=channels), z


def erased(x: Floats, z: Floats) -> Floats:
    moments = Moments.empty(x.shape[1], z.shape[1])
    for part in np.array_split(np.arange(len(x)), 3):
        moments.add(x[part], z[part])
    left, right = leace_map(*moments.covariances())
    return x - (x - moments.mean) @ (left @ right).T


def slow(x: Floats, z: Floats) -> Floats:
    """Theorem 4.2 of Belrose et al. 2023, as it is printed."""
    centred = x - x.mean(axis=0)
    covariance = centred.T @ centred / len(x)
    cross = centred.T @ (z - z.mean(axis=0)) / len(x)
    whitening = np.real(sqrtm(pinv(covariance, rtol=1e-10)))
    q = whitening @ cross
    projection = pinv(whitening, rtol=1e-6) @ q @ pinv(q) @ whitening
    return np.asarray(x - centred @ projection.T)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_published_formula_and_leaves_no_covariance(seed: int) -> None:
    x, z = samples(seed)
    result = erased(x, z)
    np.testing.assert_allclose(result, slow(x, z), atol=1e-8)
    assert np.abs((result - result.mean(axis=0)).T @ (z - z.mean())).max() / len(x) < 1e-10
    assert LinearRegression().fit(result, z).score(result, z) < 1e-12
    assert LinearRegression().fit(x, z).score(x, z) > 0.1


def test_it_changes_least_among_projections_that_erase() -> None:
    x, z = samples(5)
    centred = x - x.mean(axis=0)
    difference = centred.T @ (z - z.mean())
    unit = difference / np.linalg.norm(difference)
    naive = centred - centred @ unit @ unit.T
    assert np.square(erased(x, z) - x).sum() <= np.square(naive - centred).sum()


def test_it_copes_with_dead_and_doubled_channels() -> None:
    x, z = samples(6)
    x = np.concatenate([x, x[:, :2], np.zeros((len(x), 1)), np.ones((len(x), 1))], axis=1)
    result = erased(x, z)
    np.testing.assert_allclose(result[:, 7:9], result[:, :2], atol=1e-8)
    np.testing.assert_allclose(result[:, 9:], x[:, 9:], atol=1e-8)
    assert np.abs((result - result.mean(axis=0)).T @ (z - z.mean())).max() / len(x) < 1e-8


def test_within_classes_the_label_survives() -> None:
    generator = np.random.default_rng(0)
    y = (generator.random(600) < 0.5).astype(np.intp)
    z = np.where(generator.random(600) < 0.9, y, 1 - y).astype(float)
    x = generator.normal(size=(600, 6))
    x[:, 0] += 2 * y
    x[:, 1] += 2 * z
    known = ConceptSamples(np.arange(600), z, y, ())
    kept = erased(x, concept_columns(known, conditional=True))
    gone = erased(x, concept_columns(known, conditional=False))
    for label in (0, 1):
        inside = kept[y == label] - kept[y == label].mean(axis=0)
        assert np.abs(inside.T @ (z[y == label] - z[y == label].mean())).max() / 600 < 1e-10
    explained = [LinearRegression().fit(r, y).score(r, y) for r in (x, kept, gone)]
    assert explained[1] > 0.4 > 0.1 > explained[2]


@pytest.fixture(scope="module")
def problem() -> DebiasProblem:
    table = plant(radiographs(80, size=32, seed=50), get_artifact("tag"), correlation=0.8, seed=1)
    with seeded(0):
        model = thin_resnet18(width=4).eval()
    carries = table.frame["tag"].to_numpy(dtype=np.float64, copy=True)
    carries[:3] = np.nan
    return DebiasProblem(model, table, carries=carries, training=Training(batch_size=32), progress=False)


@pytest.mark.parametrize("on", ["positions", "pooled"])
@pytest.mark.parametrize("conditional", [True, False])
def test_no_layer_of_the_wrapper_tells_the_concept_any_more(
    problem: DebiasProblem, on: str, conditional: bool
) -> None:
    before = model_state(problem.model)
    outcome = leace(problem, layers=["blocks.3", "blocks.7"], conditional=conditional, on=on)  # type: ignore[arg-type]
    assert model_state(problem.model) == before
    assert outcome.steps == 0
    assert isinstance(outcome.model, Projected)
    assert outcome.model.model is problem.model
    assert problem.carries is not None
    rows = np.flatnonzero(~np.isnan(problem.carries))
    y = problem.train.frame["label"].to_numpy()[rows]
    strata = [y == 0, y == 1] if conditional else [np.full(len(rows), True)]
    layers = find_layers(outcome.model, problem.example(), ["model.blocks.3", "model.blocks.7"])
    for layer in layers:
        (pooled,) = pooled_activations(outcome.model, problem.train, rows, layer, progress=False)
        for stratum in strata:
            x, t = pooled[stratum], problem.carries[rows][stratum]
            cross = (x - x.mean(axis=0)).T @ (t - t.mean()) / len(t)
            assert np.abs(cross).max() < 1e-5 * pooled.std(axis=0).max()
    assert any("3 with an unknown concept" in note for note in outcome.notes)


def test_one_layer_is_the_last_with_positions_and_the_audits_go_first(problem: DebiasProblem) -> None:
    from dataclasses import replace

    def edited(given: DebiasProblem) -> list[str]:
        model = leace(given).model
        assert isinstance(model, Projected)
        return [edit.layer.name for edit in model.layer_edits]

    assert edited(problem) == ["blocks.7"]
    chosen = replace(problem, layers={"blocks.2": 0.5, "blocks.5": 0.5, "blocks.6": 0.0})
    assert edited(chosen) == ["blocks.2", "blocks.5"]


def test_what_it_lacks_is_said_before_anything_runs(problem: DebiasProblem) -> None:
    from dataclasses import replace

    class Refusing(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("ran")

    idle = replace(problem, model=Refusing())
    y = problem.train.frame["label"].to_numpy().astype(float)
    with pytest.raises(InputError, match="carries is None"):
        leace(replace(idle, carries=None))
    with pytest.raises(InputError, match="label 0 with the concept, label 1 without the concept"):
        leace(replace(idle, carries=y))
    with pytest.raises(InputError, match="with and without"):
        leace(replace(idle, carries=np.ones_like(y)), conditional=False)
    with pytest.raises(InputError, match="did you mean"):
        leace(problem, layers="blocks.77")
    assert leace(replace(problem, carries=y), conditional=False).notes
