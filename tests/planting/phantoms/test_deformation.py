import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.interpolate import RegularGridInterpolator

from shortcutscope.planting.phantoms.deformation import NODES, Region, flow, places, upsampled, velocities

AXIS = np.linspace(-1, 1, NODES)


def test_places_are_the_centres_of_the_pixels():
    at = places(4, 2)
    assert at.shape == (2, 4, 4)
    np.testing.assert_allclose(at[0][:, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(at[1][0], [-0.75, -0.25, 0.25, 0.75])


@pytest.mark.parametrize("dims", [2, 3])
def test_velocities_are_smooth_fixed_by_their_seed_and_still_at_the_edges(dims):
    fields = velocities(dims, 3, 7)
    assert fields.shape == (3, dims, *[NODES] * dims)
    np.testing.assert_allclose((fields**2).mean(axis=tuple(range(1, dims + 2))), 1, rtol=1e-4)
    np.testing.assert_allclose(fields[:, :, 0], 0, atol=1e-6)
    np.testing.assert_allclose(fields[..., -1], 0, atol=1e-6)
    assert np.abs(np.diff(fields, axis=-1)).max() < 0.5 * np.ptp(fields)
    assert not np.array_equal(fields, velocities(dims, 3, 8))


def test_the_flow_follows_the_velocity_as_an_integrator_does():
    velocity = 0.08 * velocities(2, 1, 3)[0].astype(np.float64)
    lookup = [RegularGridInterpolator((AXIS, AXIS), v, bounds_error=False, fill_value=0) for v in velocity]
    found = flow(velocity.astype(np.float32))
    for place in [(3, 4), (8, 8), (10, 3), (6, 12)]:
        start = AXIS[list(place)]
        path = solve_ivp(lambda _, x: [float(v(x)[0]) for v in lookup], (0, 1), start, max_step=0.02)
        np.testing.assert_allclose(found[:, place[0], place[1]], path.y[:, -1] - start, atol=2e-3)


def test_upsampling_keeps_a_cubic_field():
    nodes = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"))
    at = places(33, 2)
    polynomial = [n[0] ** 3 - n[1] ** 2 + n[0] * n[1] for n in (nodes, at)]
    np.testing.assert_allclose(upsampled(polynomial[0][None], 33)[0], polynomial[1], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(effect=st.floats(-5, 8), dims=st.integers(2, 3))
def test_a_region_changes_inside_itself_only_and_folds_nowhere(effect, dims):
    region = Region((0.1, -0.2, 0.0)[:dims], 0.4, 0.18)
    at = places(32, dims)
    pulled = region.pulled(at, effect)
    outside = ~region.inside(at)
    np.testing.assert_allclose(pulled[:, outside], at[:, outside], atol=1e-6)
    assert (np.diff(pulled[0], axis=0) > 0).all()
    middle = np.asarray(region.centre, np.float32).reshape(-1, *[1] * dims)
    before, after = (np.linalg.norm(x - middle, axis=0) for x in (at, pulled))
    if effect > 0.01:  # a region that has grown shows what lay further in
        assert (after <= before + 1e-6).all()
        assert (after < before - 1e-6).any()
    assert np.array_equal(region.pulled(at, 0.0), at)
