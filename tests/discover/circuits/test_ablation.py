"""Ablation: gates against explicit hooks, the search against brute force, what is refused."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from shortcutscope.data.table import ImageTable
from shortcutscope.discover.circuits import Judging
from shortcutscope.discover.circuits.ablation import Ablation, Effect
from shortcutscope.discover.circuits.gates import Gated
from shortcutscope.discover.circuits.problem import circuit_problem
from shortcutscope.discover.circuits.search import GAIN, Judgement, best_of, prune, search, switch
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers
from shortcutscope.options import Running
from shortcutscope.probes.concept import Concept
from shortcutscope.scan.plan import Scanning
from shortcutscope.scan.scanner import scan
from shortcutscope.stats.metrics import balanced_auroc


class Small(nn.Module):
    """Two convolutions, of which the second is added to the first in place, and a class token's layout."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 5, 3, padding=1)
        self.tokens = nn.Linear(5, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        h = torch.relu(self.first(x))
        g = self.second(h)
        g += h
        t = self.tokens(torch.tanh(g).flatten(2).transpose(1, 2))
        return self.head(self.norm(t).mean(1))


def images(n=48, seed=0):
    generator = np.random.default_rng(seed)
    y = np.arange(n) % 2
    a = (np.arange(n) // 2) % 2
    pixels = generator.uniform(0.2, 0.5, (n, 1, 8, 8)).astype(np.float32)
    pixels[a == 1, :, :3, :3] += 0.4
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(n)],
            "label": y,
            "group": [f"p{i // 4}" for i in range(n)],
            "mark": a,
        }
    )
    return ImageTable.from_arrays(pixels, frame, value_range=(0, 1))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(0)
    model, table = Small().eval(), images()
    layers = ["first", "second", "tokens"]
    scanned = scan(
        model,
        table,
        tmp_path_factory.mktemp("scan") / "s",
        scanning=Scanning(layers),
        running=Running(progress=False),
    )
    return model, scanned, table, Concept.from_column(table.frame, "mark")[0]


def network(small, names=("first", "second", "tokens"), batch_size=7):
    model, scanned, table, _ = small
    x = torch.stack([table[i][0] for i in range(len(table))])
    return Gated(model, x, [scanned.layer(n) for n in names], positive=2, batch_size=batch_size)


def explicit_margins(model, x, layer, channels, held, tokens):
    """The same with a plain hook, image by image."""

    def hook(module, inputs, output):
        changed = output.clone()
        for c in channels:
            if tokens:
                changed[0, :, c] = held[c]
            else:
                changed[0, c] = held[c].reshape(changed.shape[2:])
        return changed

    handle = model.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        logits = torch.cat([model(one[None].clone()) for one in x])
    handle.remove()
    return (logits[:, 2] - logits[:, :2].amax(1)).numpy()


@pytest.mark.parametrize(("layer", "tokens"), [("first", False), ("second", False), ("tokens", True)])
def test_gates_do_what_an_explicit_hook_does(small, layer, tokens):
    model, _, table, _ = small
    gated, everyone = network(small), np.arange(len(table))
    with frozen(model):
        reference = gated.reference([everyone[:10], everyone[10:16]])
        keep = np.ones(gated.layer(layer).channels, bool)
        keep[[1, 3]] = False
        fast = gated.margins(everyone, {layer: keep}, reference)
        slow = explicit_margins(model, gated.images, layer, [1, 3], reference.mean[layer], tokens)
        assert fast == pytest.approx(slow, abs=1e-5)
        again, effects = gated.effects(everyone, {layer: keep}, reference)
    assert again == pytest.approx(fast, abs=1e-5)
    assert effects[layer].shape == (len(table), gated.layer(layer).channels)


def test_the_reference_weighs_its_parts_alike(small):
    model = small[0]
    gated, parts = network(small, ["first"]), [np.arange(10), np.arange(10, 16)]
    with frozen(model), torch.no_grad():
        reference = gated.reference(parts)
        outputs = [model.first(gated.images[part]).flatten(2) for part in parts]
    expected = torch.stack([out.mean(0) for out in outputs]).mean(0)
    assert torch.allclose(reference.mean["first"], expected, atol=1e-6)
    magnitude = torch.stack([out.abs().mean((0, 2)) for out in outputs]).mean(0)
    assert reference.magnitude["first"] == pytest.approx(magnitude.numpy(), abs=1e-6)


def test_an_effect_is_the_derivative_with_respect_to_the_gate(small):
    model = small[0]
    gated, few = network(small), np.arange(5)
    with frozen(model):
        reference = gated.reference([np.arange(20)])
        every = {layer.name: np.ones(layer.channels, bool) for layer in gated.layers}
        _, effects = gated.effects(few, every, reference)
        model.double()
        x, held = gated.images[few].double(), reference.mean["second"].double()
        for channel in range(5):
            nudged = []
            for step in (1e-4, -1e-4):

                def hook(module, inputs, output, step=step, channel=channel):
                    moved = output.clone()
                    off = output[:, channel] - held[channel].reshape(8, 8)
                    moved[:, channel] = output[:, channel] + step * off
                    return moved

                handle = model.second.register_forward_hook(hook)
                logits = model(x.clone())
                handle.remove()
                nudged.append(logits[:, 2] - logits[:, :2].amax(1))
            slope = ((nudged[0] - nudged[1]) / 2e-4).numpy()
            assert effects["second"][:, channel] == pytest.approx(slope, abs=1e-3)
        model.float()


def linear_case(seed=0, n=400, channels=6):
    """Contributions that add up to the margin: the last channel carries the concept, the first the label."""
    generator = np.random.default_rng(seed)
    y, a = np.arange(n) % 2.0, (np.arange(n) // 2) % 2.0
    effects = 0.3 * generator.standard_normal((n, channels))
    effects[:, 0] += y
    effects[:, -1] += 2 * a
    effects[:, 2] += 0.3 * a + 0.1 * y
    return y, a, effects


def test_switching_ends_where_no_single_switch_helps():
    y, a, effects = linear_case()
    margins = effects.sum(1)
    judgement = Judgement(y, a, margins)
    keep = switch(margins, effects, np.ones(6, bool), judgement)
    reached = judgement.index(effects[:, keep].sum(1), 1.0)
    for channel in range(6):
        other = keep.copy()
        other[channel] = not other[channel]
        if other.any():
            assert judgement.index(effects[:, other].sum(1), 1.0) <= reached + GAIN
    subsets = [list(c) for size in range(1, 7) for c in combinations(range(6), size)]
    best = max(judgement.index(effects[:, kept].sum(1), 1.0) for kept in subsets)
    assert reached == pytest.approx(best, abs=0.01)
    assert not keep[-1]
    assert keep[0]


def test_switching_goes_back_where_it_went_too_far():
    y, a, effects = linear_case()
    only_noise = np.zeros(6, bool)
    only_noise[1] = True
    judgement = Judgement(y, a, effects.sum(1))
    keep = switch(effects[:, 1].copy(), effects, only_noise, judgement)
    assert keep[0]
    assert not keep[-1]


def test_switching_respects_step_and_limit():
    y, a, effects = linear_case()
    margins, full = effects.sum(1), np.ones(6, bool)
    judgement = Judgement(y, a, margins)
    assert (~switch(margins, effects, full, judgement, step=1)).sum() == 1
    assert (~switch(margins, effects, full, judgement, limit=2)).sum() <= 2
    with_all_useless = np.random.default_rng(0).standard_normal((400, 3))
    kept = switch(with_all_useless.sum(1), with_all_useless, np.ones(3, bool), judgement)
    assert kept.any()  # never the whole layer


def test_the_search_reports_what_the_network_gave():
    y, a, effects = linear_case()
    margins = effects.sum(1)
    judgement = Judgement(y, a, margins)

    def run(keep):
        return effects[:, keep].sum(1), effects

    found = search(run, judgement, "layer", (margins, effects))
    for candidate in found:
        after = effects[:, candidate.keep].sum(1)
        drop = balanced_auroc(y, a, margins) - balanced_auroc(y, a, after)
        assert candidate.drop == pytest.approx(drop)
    best = best_of(found)
    assert best.removed > 0.85
    assert best.drop < 0.02
    pruned = prune(lambda keep: effects[:, keep].sum(1), judgement, best, judgement.moments(effects)[0])
    assert not pruned.keep[-1]
    assert pruned.size <= 2  # the concept's own channel, and the one with a little of it
    assert pruned.value >= min(0.9, best.value)
    assert all(c.size <= 1 for c in search(run, judgement, "layer", (margins, effects), limit=1))


def effect(**changes):
    values = {
        "size": 3, "gap_before": 0.4, "gap_after": 0.1, "balanced_before": 0.8, "balanced_after": 0.78,
        "worst_after": 0.75,
    }  # fmt: skip
    return Effect(**{**values, **changes})


def test_an_effect_turned_around_is_not_removed():
    assert effect().removed == pytest.approx(0.75)
    assert effect(gap_after=-0.1).removed == pytest.approx(0.75)
    assert effect(gap_after=-0.4).removed == pytest.approx(0.0)
    assert effect(gap_before=0.01).removed is None
    assert effect().balanced_drop == pytest.approx(0.02)


def test_sets_are_compared_by_what_is_left_where_the_model_is_worst():
    ablation = Ablation(effect(), (effect(worst_after=0.5), effect(worst_after=0.6)), effect(), 40)
    assert not ablation.beats_others
    better = Ablation(effect(worst_after=0.8), ablation.random, effect(), 40)
    assert better.beats_others
    frame = better.to_frame()
    assert frame.index.tolist() == ["circuit", "random", "magnitude"]
    assert frame.loc["random", "worst_after"] == pytest.approx(0.55)
    assert Ablation.from_json(better.to_json()) == better
    both = Ablation.averaged([better, ablation])
    assert both.n_samples == 80
    assert both.circuit.worst_after == pytest.approx(0.775)


def test_patients_are_in_one_half(small):
    model, scanned, table, concept = small
    problem = circuit_problem(model, scanned, table, concept, ["first"], Judging())
    patients = pd.Series(problem.halves).groupby(table.frame["group"].to_numpy()[problem.rows]).nunique()
    assert (patients == 1).all()
    assert sorted(np.unique(problem.halves)) == [0, 1]


def test_other_tables_and_rare_concepts_are_refused(small):
    model, scanned, table, concept = small
    with pytest.raises(InputError, match="lacks 38 of 48 scanned samples"):
        circuit_problem(model, scanned, table.take(np.arange(10)), concept, ["first"], Judging())
    values = np.zeros(len(table))
    values[:3] = 1
    rare = Concept("rare", values, "planted", concept.sample_ids)
    with pytest.raises(InputError, match="are too few"):
        circuit_problem(model, scanned, table, rare, ["first"], Judging())


def test_a_network_without_gradient_has_no_effects():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 1), nn.Linear(2, 2)

        def forward(self, x):
            return self.head(self.conv(x).mean((2, 3)))

    model, x = Detached().eval(), torch.rand(4, 1, 3, 3)
    layers = find_layers(model, x, ["conv"])
    gated, everyone = Gated(model, x, layers), np.arange(4)
    with frozen(model):
        reference = gated.reference([everyone])
        model.head.register_forward_pre_hook(lambda module, inputs: (inputs[0].detach(),))
        with pytest.raises(ModelError, match="no gradient"):
            gated.effects(everyone, {"conv": np.ones(2, bool)}, reference)
    with pytest.raises(InputError, match="has 2 channels"):
        gated.margins(everyone, {"conv": np.ones(3, bool)}, reference)
