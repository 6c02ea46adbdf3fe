import numpy as np
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor
from torch import nn

from shortcutscope.discover.neurons import (
    extreme_activation_distance,
    extreme_activations,
    neuron_scores,
    outlier_factor,
    outlier_scores,
    profile_neurons,
    relevance_distance,
)
from shortcutscope.errors import InputError
from shortcutscope.options import Running
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

CORNER = 5


class OneInTheCorner(nn.Module):
    """Twelve neurons that see the whole image in slightly different ways, and one that sees a corner."""

    def __init__(self):
        super().__init__()
        self.neurons = nn.Linear(32 * 32, 12)
        self.rectified = nn.ReLU()
        self.last = nn.Linear(12, 2, bias=False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            shared = torch.rand(1024, generator=generator)
            weights = shared + 0.02 * torch.rand(12, 1024, generator=generator)
            weights[CORNER] = 0
            weights[CORNER].view(32, 32)[4:12, 4:12] = 1
            self.neurons.weight.copy_(weights)
            self.neurons.bias.zero_()
            self.neurons.bias[CORNER] = -30
            self.last.weight.copy_(torch.stack([-torch.ones(12), torch.ones(12)]))

    def forward(self, x):
        return self.last(self.rectified(self.neurons(x.flatten(1))))


@pytest.fixture(scope="module")
def study(noise_images, tmp_path_factory):
    table = noise_images(n=120)
    folder = tmp_path_factory.mktemp("neurons") / "scan"
    return scan(
        OneInTheCorner(), table, folder, scanning=Scanning(["rectified"]), running=Running(progress=False)
    ), table


def test_a_planted_neuron_is_the_first_outlier_by_both_profiles(study):
    scanned, table = study
    found = profile_neurons(scanned, "rectified", top=10)
    assert found.ranked("relevance")[0] == CORNER
    assert found.ranked("activation")[0] == CORNER
    frame = found.to_frame().set_index("channel")
    assert frame.loc[CORNER, "relevance_rank"] == frame.loc[CORNER, "activation_rank"] == 1
    assert sorted(frame["relevance_rank"]) == list(range(1, 13))
    assert frame.loc[CORNER, "relevance_outlier"] > 1.5 > frame["relevance_outlier"].median()
    assert found.note == ""
    (channel, scores), *_ = outlier_scores(scanned, found, most=3)
    assert channel == CORNER
    square = table.frame["square"].to_numpy(bool)
    assert scores[square].min() > scores[~square].max()


@pytest.mark.parametrize("by", ["relevance", "activation"])
def test_scores_are_those_of_the_scan(study, by):
    scanned, table = study
    values = scanned.relevance("rectified") if by == "relevance" else scanned.activation("rectified", "max")
    order = np.argsort(-values[:, CORNER], kind="stable")[:8]
    assert table.frame["square"].to_numpy()[order].all()
    np.testing.assert_array_equal(
        neuron_scores(scanned, "rectified", [1, CORNER], by), values[:, [1, CORNER]].astype(float)
    )


def test_relevance_distance_is_the_chord_between_columns():
    generator = np.random.default_rng(0)
    relevance = generator.standard_normal((5000, 7)).astype(np.float16)
    relevance[:, 3] = -relevance[:, 2]
    distance = relevance_distance(relevance)
    unit = relevance.astype(float) / np.linalg.norm(relevance.astype(float), axis=0)
    expected = [[np.linalg.norm(unit[:, i] - unit[:, j]) / 2 for j in range(7)] for i in range(7)]
    np.testing.assert_allclose(distance, expected, atol=1e-4)
    assert distance[2, 3] == pytest.approx(1)


def test_extreme_activation_distance_is_that_of_the_definition():
    generator = np.random.default_rng(1)
    activation = generator.standard_normal((200, 150)) @ generator.standard_normal((150, 150))
    found = extreme_activation_distance(extreme_activations(activation, top=9))
    standard = (activation - activation.mean(0)) / activation.std(0)
    highest = np.argsort(-activation, axis=0)[:9]
    for i, j in [(0, 1), (3, 140), (149, 2)]:
        first = standard[highest[:, i]][:, [i, j]].mean(0)
        second = standard[highest[:, j]][:, [i, j]].mean(0)
        cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
        assert found[i, j] == pytest.approx(np.sqrt((1 - cosine) / 2), abs=1e-5)
        assert found[j, i] == pytest.approx(found[i, j], abs=1e-6)
    assert (np.diag(found) == 0).all()


def test_the_factor_is_that_of_scikit_learn_on_the_points():
    points = np.random.default_rng(2).standard_normal((60, 3))
    points[4] = 8
    points /= 40
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    expected = -LocalOutlierFactor(n_neighbors=15).fit(points).negative_outlier_factor_
    factor = outlier_factor(np.maximum(distance, 0.01), 15)
    assert factor.argmax() == expected.argmax() == 4
    np.testing.assert_allclose(outlier_factor(10 * distance, 15), expected, rtol=0.02)


def test_silent_neurons_have_no_factor_and_come_last():
    generator = np.random.default_rng(3)
    values = generator.standard_normal((100, 9)).astype(np.float32)
    values[:, 0], values[:, 4] = 0, 7.1
    by_relevance = outlier_factor(relevance_distance(values))
    by_activation = outlier_factor(extreme_activation_distance(extreme_activations(values)))
    assert np.flatnonzero(np.isnan(by_relevance)).tolist() == [0]
    assert np.flatnonzero(np.isnan(by_activation)).tolist() == [0, 4]
    assert np.isnan(outlier_factor(relevance_distance(np.zeros((10, 6))))).all()


def test_neurons_that_are_all_the_same_are_no_outliers():
    same = np.repeat(np.random.default_rng(4).standard_normal((50, 1)), 8, axis=1)
    np.testing.assert_allclose(outlier_factor(relevance_distance(same)), 1)


def test_without_relevance_neurons_are_compared_by_activation_alone(noise_images, tmp_path):
    scanned = scan(
        OneInTheCorner(),
        noise_images(n=60),
        tmp_path / "scan",
        scanning=Scanning(relevance=False, layers=["rectified"]),
        running=Running(progress=False),
    )
    found = profile_neurons(scanned, "rectified", top=5)
    assert "not compared by relevance" in found.note
    assert np.isnan(found.relevance_outlier).all()
    assert found.ranked("activation")[0] == CORNER
    channels = [channel for channel, _ in outlier_scores(scanned, found, most=4)]
    assert channels == found.ranked("activation")[:4].tolist()


def test_bad_input_is_refused(study):
    scanned, _ = study
    for change, message in [
        ({"top": 0}, "top=0"),
        ({"top": 500}, "1 to 120"),
        ({"neighbours": 0}, "1 or more"),
    ]:
        with pytest.raises(InputError, match=message):
            profile_neurons(scanned, "rectified", **change)
    with pytest.raises(InputError, match="was not scanned"):
        profile_neurons(scanned, "elsewhere")
    with pytest.raises(InputError, match="allowed are 0 to 11"):
        neuron_scores(scanned, "rectified", [12])
    with pytest.raises(InputError, match="allowed are 'relevance' and 'activation'"):
        neuron_scores(scanned, "rectified", [0], by="size")
    with pytest.raises(InputError, match="'relevance' and 'activation'"):
        profile_neurons(scanned, "rectified").ranked("size")


def test_a_layer_of_few_neurons_is_refused(study, noise_images, tmp_path):
    scanned = scan(
        OneInTheCorner(),
        noise_images(n=20),
        tmp_path / "scan",
        scanning=Scanning(["last"]),
        running=Running(progress=False),
    )
    with pytest.raises(InputError, match="at least 5"):
        profile_neurons(scanned, "last")
