"""Circuits: a network made by hand, in which one channel carries the artifact."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from model_states import model_state
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.circuits import Circuit, Judging, Searching, find_circuit
from shortcutscope.errors import InputError
from shortcutscope.models.seeding import seeded
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan

CARRIER = 2


class Handmade(nn.Module):
    """The artifact is in channel 2 of the first layer; in the second each channel has both.

    The image's first plane holds what the label is about, the second the artifact, the third noise.
    """

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1, bias=False), nn.Conv2d(4, 3, 1, bias=False)
        self.head = nn.Linear(3, 2, bias=False)
        plane = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0.5]])
        mixed = torch.tensor([[1.0, 0, 1.5, 0.1], [0.5, 0.2, 1.0, 0], [0.8, 0, 1.2, 0.1]])
        with torch.no_grad():
            self.first.weight.copy_(plane[..., None, None])
            self.second.weight.copy_(mixed[..., None, None])
            self.head.weight.copy_(torch.tensor([[-1.0, -1, -1], [1, 1, 1]]))

    def forward(self, x):
        h = torch.relu(self.first(x))
        return self.head(torch.relu(self.second(h)).mean((2, 3)))


def planes(n=400, seed=0):
    generator = np.random.default_rng(seed)
    y, a = np.arange(n) % 2, (np.arange(n) // 2) % 2
    pixels = generator.uniform(0, 0.3, (n, 3, 6, 6)).astype(np.float32)
    core = 0.1 * y + 0.04 * generator.standard_normal(n)
    pixels[:, 0] += core[:, None, None].astype(np.float32)
    pixels[a == 1, 1, :4, :4] += 0.5
    frame = pd.DataFrame({"sample_id": [f"s{i}" for i in range(n)], "label": y, "mark": a})
    return ImageTable.from_arrays(pixels.clip(0, 1), frame, value_range=(0, 1))


@pytest.fixture(scope="module")
def handmade(tmp_path_factory):
    model, table = Handmade().eval(), planes()
    folder = tmp_path_factory.mktemp("scan") / "s"
    scanned = scan(
        model, table, folder, scanning=Scanning(["first", "second"]), running=Running(progress=False)
    )
    return model, scanned, table, Concept.from_column(table.frame, "mark")[0]


@pytest.fixture(scope="module")
def circuit(handmade):
    return find_circuit(*handmade, running=Running(progress=False))


def test_the_circuit_is_the_channel_that_carries_the_artifact(circuit):
    assert circuit.ablated == {"first": [CARRIER]}
    carrier = circuit.nodes[circuit.nodes["layer"] == "first"].iloc[0]
    assert carrier["channel"] == CARRIER
    assert carrier["auroc"] > 0.99
    # One pass through the second layer's weights: 2 (1.5 + 1 + 1.2) times .5 on 16 of 36 pixels.
    assert carrier["score"] == pytest.approx(2 * 3.7 * 0.5 * 16 / 36, rel=0.03)
    assert "not as of" not in " ".join(circuit.notes)


def test_ablating_it_removes_the_effect_and_nothing_else(circuit):
    effect = circuit.ablation.circuit
    assert effect.gap_before > 0.5
    assert effect.removed > 0.85
    assert effect.balanced_drop < 0
    assert effect.size == 1
    assert circuit.ablation.beats_others
    assert circuit.ablation.n_samples == 400
    assert circuit.ablation.magnitude.size == 1
    assert len(circuit.ablation.random) == 5


def test_edges_lead_from_the_carrier_to_every_mixed_channel(circuit):
    weights = circuit.edges.set_index(["source_channel", "target_channel"])["weight"]
    assert set(circuit.edges["source_layer"]) == {"first"}
    assert set(circuit.edges["target_layer"]) == {"second"}
    for target in range(3):
        assert weights[CARRIER, target] == weights.xs(target, level="target_channel").max()
        assert weights[CARRIER, target] > 0.2


def test_the_other_value_may_be_the_named_one(handmade):
    model, scanned, table, concept = handmade
    swapped = find_circuit(
        model,
        scanned,
        table,
        concept.swapped(),
        searching=Searching(edges=False),
        judging=Judging(draws=1),
        running=Running(progress=False),
    )
    assert swapped.ablated == {"first": [CARRIER]}
    assert swapped.ablation.circuit.removed > 0.85
    other = find_circuit(
        model,
        scanned,
        table,
        concept,
        judging=Judging(positive=0, draws=1),
        searching=Searching(edges=False),
        running=Running(progress=False),
    )
    assert other.ablated == {"first": [CARRIER]}
    assert "not of" in other.notes[0]


def test_calls_repeat_and_leave_the_model_as_it_was(handmade):
    before = model_state(handmade[0])
    one, two = (
        find_circuit(
            *handmade,
            searching=Searching(edges=False),
            judging=Judging(draws=2, seed=5),
            running=Running(progress=False),
        )
        for _ in range(2)
    )
    pd.testing.assert_frame_equal(one.nodes, two.nodes)
    assert one.ablation == two.ablation
    assert model_state(handmade[0]) == before


def test_a_circuit_is_saved_without_nan(circuit, tmp_path):
    unknown = circuit.nodes.assign(auroc=np.nan)
    odd = Circuit("x", circuit.layers, unknown, circuit.edges, circuit.ablation, circuit.notes)
    for one in (circuit, odd):
        path = one.save(tmp_path / "circuit.json")
        json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
        back = Circuit.open(path)
        pd.testing.assert_frame_equal(back.nodes, one.nodes)
        pd.testing.assert_frame_equal(back.edges, one.edges)
        assert back.ablation == one.ablation
        assert back.notes == one.notes
        assert repr(back) == repr(one)
    assert "1 channels of first" in repr(circuit)
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(InputError, match="no circuit"):
        Circuit.open(tmp_path / "other.json")


def test_one_layer_and_a_largest_size(handmade):
    found = find_circuit(
        *handmade,
        searching=Searching("second", 1, edges=False),
        judging=Judging(draws=1),
        running=Running(progress=False),
    )
    assert found.layers == ("second",)
    assert found.ablation.circuit.size == 1
    with pytest.raises(InputError, match="was not scanned"):
        find_circuit(*handmade, searching=Searching(["third"]), running=Running(progress=False))
    with pytest.raises(InputError, match="of at least 1"):
        find_circuit(*handmade, searching=Searching(size=0), running=Running(progress=False))
    with pytest.raises(InputError, match="no layer"):
        find_circuit(*handmade, searching=Searching([]), running=Running(progress=False))


def test_where_there_is_no_effect_the_notes_say_so(handmade):
    model, scanned, table, concept = handmade
    values = np.random.default_rng(1).permutation(concept.values)
    nothing = Concept("nothing", values, "planted", concept.sample_ids)
    found = find_circuit(
        model,
        scanned,
        table,
        nothing,
        searching=Searching(edges=False),
        judging=Judging(draws=1),
        running=Running(progress=False),
    )
    assert found.ablation.circuit.gap_before < 0.3
    assert len(found.nodes)


def test_features_of_tokens_are_channels(tmp_path):
    with seeded(0):
        model = VisionTransformer(8, 4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=2)
        nn.init.normal_(model.heads.head.weight)
    small = planes(64)
    frame = small.frame[["sample_id", "label", "mark"]]
    pixels = np.stack([np.pad(small.image(i).numpy(), ((0, 0), (1, 1), (1, 1))) for i in range(64)])
    table = ImageTable.from_arrays(pixels, frame, value_range=(0, 1))
    scanned = scan(model.eval(), table, tmp_path / "scan", running=Running(progress=False))
    concept = Concept.from_column(frame, "mark")[0]
    found = find_circuit(
        model, scanned, table, concept, judging=Judging(draws=1), running=Running(progress=False)
    )
    assert set(found.nodes["layer"]) <= {layer.name for layer in scanned.layers}
    assert np.isfinite(found.edges["weight"]).all()
    assert len(found.edges)
