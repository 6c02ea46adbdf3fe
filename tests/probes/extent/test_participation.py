from math import prod

import numpy as np
import pytest

from shortcutscope.audit.interventions.use_and_extent import local_layers
from shortcutscope.models.layers import Layer
from shortcutscope.probes.extent.participation import participation_change, participation_ratio

N, P = 200, 256
LABELS = np.arange(N) % 2
CONCEPT = (np.arange(N) // 2 % 2).astype(float)


def slow_ratio(response, reference):
    out = []
    mean, sd = response[reference].mean(0), response[reference].std(0)
    for row in response:
        e = [max((v - m) / (s + 0.05 * sd.mean()), 0) ** 2 for v, m, s in zip(row, mean, sd, strict=True)]
        out.append(sum(e) ** 2 / (P * sum(v**2 for v in e)))
    return np.array(out)


def test_ratio_equals_the_definition():
    response = np.random.default_rng(0).standard_normal((20, P))
    reference = np.arange(20) < 10
    np.testing.assert_allclose(
        participation_ratio(response, reference), slow_ratio(response, reference), rtol=1e-6
    )


@pytest.mark.parametrize(("where", "sign"), [(slice(0, 6), -1), (slice(None), 1)])
def test_a_spot_lowers_the_ratio_and_a_veil_raises_it(where, sign):
    response = np.random.default_rng(0).standard_normal((N, P))
    response[CONCEPT == 1, where] += 4
    assert sign * participation_change(response, CONCEPT, LABELS, 1) > 0.03


def test_naming_the_other_value_present_mirrors_the_question():
    response = np.random.default_rng(0).standard_normal((N, P))
    response[CONCEPT == 1] += 1
    mirrored = participation_change(-response, 1 - CONCEPT, LABELS, 1)
    assert participation_change(response, CONCEPT, LABELS, 0) == pytest.approx(mirrored)


def layer(name, layout, grid):
    shape = (prod(grid), 8) if layout == "tokens" else (8, *grid)
    return Layer(name, "Block", layout, shape, 0.5, grid=grid)


def test_s8_networks_of_tokens_say_nothing_of_the_extent():
    convolutions = [layer(f"conv.{k}", "NCHW", (8, 8)) for k in range(5)]
    tokens = [layer(f"blocks.{k}", "tokens", (8, 8)) for k in range(3)]
    vector = layer("stem", "NCHW", (1, 1))
    assert local_layers([vector, *convolutions]) == convolutions[:3]
    assert local_layers([*convolutions[:1], *tokens, *convolutions[1:]]) == []
    assert local_layers(tokens) == []
