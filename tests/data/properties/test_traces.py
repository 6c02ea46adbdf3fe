"""Each property of a signal follows what it is called after."""

import numpy as np
import pytest

from shortcutscope.data.properties.traces import trace_properties

RANGE = (-1.0, 1.0)
TIME = np.arange(600)
PLAIN = np.stack([0.3 * np.sin(TIME / 17 + k) * (1 + 0.3 * np.sin(TIME / 41)) for k in range(3)])


@pytest.mark.parametrize(
    ("prop", "after"),
    [
        ("level", PLAIN + 0.2),
        ("amplitude", 1.5 * PLAIN),
        ("signal noise", PLAIN + 0.05 * np.random.default_rng(0).standard_normal(PLAIN.shape)),
        ("baseline wander", PLAIN + 0.4 * np.sin(2 * np.pi * TIME / 500)),
        ("hum", PLAIN + 0.05 * np.sin(2 * np.pi * TIME * 0.31)),
        ("flat share", np.where(TIME < 200, 0.0, PLAIN)),
        ("clipped share", PLAIN.clip(-0.15, 0.15)),
    ],
)
def test_a_property_follows_its_name(prop, after):
    before = trace_properties(PLAIN, RANGE)[prop]
    assert trace_properties(after, RANGE)[prop] > before + 0.05 * abs(before) + 0.01


def test_what_is_flat_gives_finite_numbers_and_images_give_nothing():
    assert all(np.isfinite(v) for v in trace_properties(np.zeros((2, 100)), RANGE).values())
    assert trace_properties(np.zeros((1, 32, 32)), RANGE) == {}
    assert trace_properties(np.zeros((1, 8)), RANGE) == {}
