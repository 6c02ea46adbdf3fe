"""Networks before and after, on two thin networks with a planted shortcut, and all that must be refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import shortcutscope as ss
from shortcutscope.compare.estimate import Estimate, paired_rows, resample
from shortcutscope.compare.performance import logits_of
from shortcutscope.compare.space import matching_layers
from shortcutscope.debias.training.classifier import Optimizing, train_classifier
from shortcutscope.errors import InputError
from shortcutscope.facade import Comparison, compare
from shortcutscope.planting.planting import artifact_mask, clean_twin, everywhere
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.stats.bootstrap import cluster_weights, percentile_interval
from shortcutscope.stats.metrics import (
    aligned_auroc,
    balanced_auroc,
    delta_tpr,
    expected_calibration_error,
    flip_rate,
    robust_auroc,
    worst_group_accuracy,
)

UNFITTED = ss.Comparing(refit=False)
COUNTED = {"statistics": ss.Statistics(50, 40), "running": ss.Running(progress=False)}
QUICK = {"comparing": UNFITTED, **COUNTED}
IN_SPACE = ss.Comparing(others=["sex"], layers=["**stem.2", "**blocks.7"])
SPACE = {"comparing": IN_SPACE, **COUNTED}
ALONE = SPACE | {"comparing": replace(IN_SPACE, others=False)}
TAG = ss.phantoms.get_artifact("tag")


class Wrapped(nn.Module):
    """The same network under another name."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def trained(table, epochs=5):
    model = thin_resnet18(width=4, seed=0)
    train_classifier(
        model, table, epochs=epochs, optimizing=Optimizing(batch_size=32), seed=0, progress=False
    )
    return model


@pytest.fixture(scope="module")
def study():
    """A biased network, one trained without the bias, the biased training table, and the triad."""
    phantoms = ss.phantoms.radiographs(700, size=32, seed=50)
    patients = phantoms.frame["group"]
    first = patients.isin(patients.unique()[: int(0.55 * patients.nunique())]).to_numpy()
    pool, held_out = phantoms.take(first), phantoms.take(~first)
    train = ss.phantoms.plant(pool, TAG, correlation=0.95)
    unbiased = ss.phantoms.plant(pool, TAG, correlation=0.5)
    # Without the shortcut it is the disease that has to be learnt, which takes longer.
    return (
        trained(train),
        trained(unbiased, epochs=12),
        train,
        ss.phantoms.triad(held_out, TAG, correlation=0.9),
    )


@pytest.fixture(scope="module")
def compared(study, tmp_path_factory):
    biased, unbiased, train, triad = study
    out = tmp_path_factory.mktemp("compare")
    networks = {"unbiased": unbiased, "same": Wrapped(biased)}
    tables = {name: triad[name] for name in ("correlated", "balanced")}
    return compare(biased, networks, tables, train=train, out=out, **SPACE), out


def row(comparison, network, table, metric, detail="", part=None):
    frame = comparison.frame
    found = frame[
        (frame.network == network)
        & (frame.table == table)
        & (frame.metric == metric)
        & (frame.detail == detail)
    ]
    found = found if part is None else found[found.part == part]
    assert len(found) == 1, found
    return found.iloc[0]


def measured(model, table):
    logits = logits_of(model, table)
    return (logits[:, 1] - logits[:, 0]).double().numpy(), logits.argmax(1).numpy(), logits.softmax(1).numpy()


def direct_calls(y, a):
    return {
        "robust_auroc": lambda m, w=None: robust_auroc(y, a, m[0], w),
        "aligned_auroc": lambda m, w=None: aligned_auroc(y, a, m[0], w),
        "balanced_auroc": lambda m, w=None: balanced_auroc(y, a, m[0], w),
        "worst_group_accuracy": lambda m, w=None: worst_group_accuracy(y, a, m[1], w),
        "ece": lambda m, w=None: expected_calibration_error(y, m[2], weights=w),
    }


def test_metrics_and_paired_intervals_are_those_of_direct_calls(study, compared):
    biased, unbiased, _, triad = study
    comparison, _ = compared
    for name in ("correlated", "balanced"):
        table = triad[name]
        weights = cluster_weights(table.frame["group"].to_numpy(), 40, 0)
        calls = direct_calls(table.frame["label"].to_numpy(), table.frame["tag"].to_numpy())
        scores = {"before": measured(biased, table), "unbiased": measured(unbiased, table)}
        for metric, call in calls.items():
            one = row(comparison, "unbiased", name, metric)
            assert one.value == pytest.approx(call(scores["unbiased"]), abs=1e-6)
            assert one.change == pytest.approx(call(scores["unbiased"]) - call(scores["before"]), abs=1e-6)
            resampled = call(scores["unbiased"], weights) - call(scores["before"], weights)
            expected = percentile_interval(resampled)
            assert (one.change_low, one.change_high) == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_delta_tpr_changes_by_its_distance_from_zero(study, compared):
    biased, unbiased, _, triad = study
    y, a = (triad["balanced"].frame[c].to_numpy() for c in ("label", "tag"))
    old, new = (delta_tpr(y, a, measured(m, triad["balanced"])[1]) for m in (biased, unbiased))
    one = row(compared[0], "unbiased", "balanced", "delta_tpr")
    assert one.value == pytest.approx(new)
    assert one.change == pytest.approx(abs(new) - abs(old))
    assert one.better is True


def test_twins_and_relevance_inside_the_mask(study, compared):
    biased, _, _, triad = study
    table = triad["balanced"]
    without, carrying = (measured(biased, t)[1] for t in (clean_twin(table), everywhere(table, "tag")))
    one = row(compared[0], "before", "balanced", "flip_rate")
    assert one.value == pytest.approx(flip_rate(without, carrying))
    carriers = np.flatnonzero(table.frame["tag"])
    shares = []
    for i in carriers:
        x = table[int(i)][0][None].requires_grad_()
        logits = biased(x)
        logits[0, logits.argmax()].backward()
        relevance = (x.grad * x).detach().sum(1)[0].abs()
        shares.append(float(relevance[artifact_mask(table, int(i))].sum() / relevance.sum()))
    assert row(compared[0], "before", "balanced", "artifact_relevance").value == pytest.approx(
        np.mean(shares), abs=1e-4
    )
    assert row(compared[0], "unbiased", "balanced", "artifact_relevance").better is True


def test_what_got_worse_stands_first(compared):
    comparison, _ = compared
    worse = comparison.worse
    assert len(worse)
    assert worse["better"].eq(False).all()
    assert comparison.frame["better"][: len(worse)].eq(False).all()
    assert not comparison.frame["better"][len(worse) :].eq(False).any()
    assert comparison.better["better"].all()
    assert "worse: unbiased" in repr(comparison)
    # the price of giving the shortcut up, where it agreed with the label
    assert "aligned_auroc" in set(worse["metric"])


def test_every_network_is_audited_in_its_own_space(compared):
    comparison, _ = compared
    before, after, same = comparison.networks
    assert same["verdict"] == "shortcut"
    assert before["verdict"] == "shortcut"
    assert after["verdict"] != "shortcut"
    assert comparison.settings["main"] == "balanced"
    decision = after["layers"][-1]["name"]
    assert row(comparison, "unbiased", "balanced", "use", decision).better is True
    availability = comparison.frame[comparison.frame.metric == "availability"]
    assert availability["better"].isna().all()
    verdict = row(comparison, "unbiased", "balanced", "verdict", "tag")
    assert verdict.better is True
    assert verdict.note.startswith("shortcut → ")
    assert row(comparison, "unbiased", "balanced", "accuracy", "with sex=M").part == "subgroup"


def test_layers_agree_with_the_profile_of_the_audit(compared):
    comparison, out = compared
    profile = ss.Audit.open(out / "comparison" / "before").profile
    profile = profile[profile.concept == "tag"].set_index("layer")
    for layer in comparison.networks[0]["layers"]:
        for metric, column in (("availability", "auroc"), ("use", "use")):
            one = row(comparison, "before", "balanced", metric, layer["name"])
            assert one.value == pytest.approx(profile.loc[layer["name"], column], abs=1e-6)
            ends = profile.loc[layer["name"], [f"{column}_low", f"{column}_high"]]
            assert (one.low, one.high) == pytest.approx(tuple(ends), abs=1e-6)


def test_saved_and_opened_it_is_the_same(compared):
    comparison, out = compared
    opened = Comparison.open(out)
    pd.testing.assert_frame_equal(opened.frame, comparison.frame)
    assert opened.networks == comparison.networks
    assert opened.save(out / "again.json").read_bytes() == (out / "comparison.json").read_bytes()
    kept = json.loads((out / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert [n["name"] for n in kept["networks"]] == ["before", "unbiased", "same"]
    (out / "other.json").write_text("{}")
    with pytest.raises(InputError, match="not a comparison of format"):
        Comparison.open(out / "other.json")


def test_against_itself_in_a_wrapper_nothing_changes(compared):
    comparison, _ = compared
    same = comparison.frame[comparison.frame.network == "same"]
    numbers = same[same.metric != "verdict"]
    assert {"use", "availability", "robust_auroc", "flip_rate", "artifact_relevance"} <= set(numbers.metric)
    for column in ("change", "change_low", "change_high"):
        assert (numbers[column] == 0).all(), column
    assert same["better"].isna().all()
    assert comparison.networks[2]["layers"][0] == comparison.networks[0]["layers"][0] | {
        "name": "inner.stem.2", "before": "stem.2",
    }  # fmt: skip


def test_availability_does_not_depend_on_the_order_of_channels(study):
    class Shuffled(nn.Module):
        """The same function, its channels in another order."""

        def __init__(self, order):
            super().__init__()
            self.first = nn.Conv2d(1, 8, 5, stride=4)
            self.head = nn.Linear(8, 2)
            with torch.no_grad():
                self.first.weight.copy_(self.first.weight[order].clone())
                self.first.bias.copy_(self.first.bias[order].clone())
                self.head.weight.copy_(self.head.weight[:, order].clone())

        def forward(self, x):
            return self.head(torch.relu(self.first(x)).amax((2, 3)))

    train, triad = study[2], study[3]
    networks = []
    for order in (list(range(8)), [3, 1, 0, 2, 7, 6, 5, 4]):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            networks.append(Shuffled(order))
    options = SPACE | {"comparing": ss.Comparing(others=False, layers=["first"])}
    comparison = compare(*networks, triad["balanced"], train=train, **options)
    one = row(comparison, "after", "data", "availability", "first")
    old = row(comparison, "before", "data", "availability", "first")
    assert old.value > 0.6
    assert one.value == pytest.approx(old.value, abs=1e-3)
    assert one.change == pytest.approx(0, abs=1e-3)


def test_a_concept_against_the_positive_class_is_turned(study):
    biased, unbiased, _, triad = study
    table = triad["correlated"]
    turned = table.with_columns(no_tag=1 - table.frame["tag"].to_numpy())
    one = compare(biased, unbiased, table, concept="tag", **QUICK)
    other = compare(
        biased, unbiased, turned, concept="no_tag", **QUICK | {"comparing": replace(UNFITTED, others=False)}
    )
    assert other.settings["against"]
    for metric in ("robust_auroc", "aligned_auroc", "balanced_auroc", "worst_group_accuracy"):
        assert row(one, "after", "data", metric).value == row(other, "after", "data", metric).value
    assert row(other, "after", "data", "delta_tpr").value == -row(one, "after", "data", "delta_tpr").value
    # the column is planted under no such name: no twins and no masks, and that is said
    assert row(other, "after", "data", "flip_rate").note.startswith("not measurable: nothing is planted")
    assert row(other, "after", "data", "artifact_relevance").note.startswith("not measurable")


def test_masks_may_be_given(study):
    biased, unbiased, _, triad = study
    table = triad["balanced"]
    ids = list(table.frame["sample_id"])
    own = {name: artifact_mask(table, i).numpy() for i, name in enumerate(ids)}
    planted = compare(biased, unbiased, table, **QUICK)
    given = compare(biased, unbiased, table, **QUICK | {"comparing": replace(UNFITTED, masks=own.get)})
    metric = "artifact_relevance"
    assert row(given, "after", "data", metric).value == row(planted, "after", "data", metric).value
    with pytest.raises(InputError, match="the size of the table's images"):
        compare(
            biased,
            unbiased,
            table,
            **QUICK | {"comparing": replace(UNFITTED, masks=lambda name: np.ones((4, 4), bool))},
        )


def test_s8_the_association_is_that_of_the_audit_and_not_of_a_balanced_table(study, tmp_path):
    biased, unbiased, train, triad = study
    audited = ss.audit(
        biased, triad["balanced"], tmp_path / "run", concepts=["tag"], train=train, discover=False,
        scanning=ss.Scanning(IN_SPACE.layers), **COUNTED,
    )  # fmt: skip
    assert audited["tag"].association["phi"] > 0.8
    comparison = compare(audited, unbiased, triad["balanced"], model=biased, **ALONE)
    before = comparison.networks[0]
    assert before["verdict"] == audited["tag"].verdict == "shortcut"


def test_empty_groups_and_few_patients_are_said(study):
    biased, unbiased, _, triad = study
    table = triad["balanced"]
    frame = table.frame
    aligned = table.take(((frame["label"] == frame["tag"]) | (frame["label"] == 1)).to_numpy())
    comparison = compare(biased, unbiased, aligned, **QUICK)
    one = row(comparison, "after", "data", "robust_auroc")
    assert np.isnan(one.value)
    assert one.better is None
    assert "0 patients of the group 'class 0, with tag'" in one.note
    few = table.take(np.concatenate([np.flatnonzero((frame.label == y) & (frame.tag == t))[:2]
                                     for y in (0, 1) for t in (0, 1)]))  # fmt: skip
    short = compare(biased, unbiased, few.with_columns(group=["a", "b"] * 4), **QUICK)
    one = row(short, "after", "data", "balanced_auroc")
    assert np.isnan(one.value)
    assert "2 patients of the group" in one.note
    overall = row(short, "after", "data", "accuracy")
    assert np.isfinite(overall.value)
    assert np.isnan(overall.change_low)
    assert "no interval" in overall.note


def test_a_table_that_knows_the_concept_in_one_class_is_compared_beside_another(study):
    biased, unbiased, _, triad = study
    frame = triad["correlated"].frame
    half = triad["correlated"].with_columns(tag=np.where(frame["label"] == 1, frame["tag"], np.nan))
    comparison = compare(biased, unbiased, {"half": half, "balanced": triad["balanced"]}, **QUICK)
    one = row(comparison, "after", "half", "robust_auroc")
    assert np.isnan(one.value)
    assert "0 patients of the group" in one.note
    assert np.isfinite(row(comparison, "after", "balanced", "robust_auroc").value)
    with pytest.raises(InputError, match="of one class"):
        compare(biased, unbiased, half, **QUICK)


def test_an_audit_with_its_network_names_the_concept(study, compared):
    biased, unbiased, _, triad = study
    audited = ss.Audit.open(compared[1] / "comparison" / "before")
    comparison = compare(audited, unbiased, triad["inverted"], model=biased, **QUICK)
    assert comparison.concept == "tag"
    with pytest.raises(InputError, match="model="):
        compare(audited, unbiased, triad, **QUICK)
    with pytest.raises(InputError, match="another fingerprint"):
        compare(audited, unbiased, triad, model=unbiased, **QUICK)


def test_several_classes(study):
    triad = study[3]
    labels = triad["correlated"].frame["label"].to_numpy().copy()
    labels[::5] = 2
    table = triad["correlated"].replaced(classes=None, frame=triad["correlated"].frame.assign(label=labels))
    networks = [thin_resnet18(num_classes=3, width=4, seed=seed) for seed in (0, 1)]
    comparison = compare(
        *networks,
        table,
        **QUICK
        | {"statistics": ss.Statistics(50, 40, positive=1), "comparing": replace(UNFITTED, others=False)},
    )
    margins = logits_of(networks[1], table).double()
    margin = margins[:, 1] - margins[:, [0, 2]].amax(1)
    one = row(comparison, "after", "data", "robust_auroc")
    assert one.value == pytest.approx(robust_auroc(labels == 1, table.frame["tag"], margin.numpy()))
    with pytest.raises(InputError, match="positive=7"):
        compare(*networks, table, **QUICK | {"statistics": ss.Statistics(positive=7)})


def test_bad_input_is_refused_before_any_long_work(study, monkeypatch):
    biased, unbiased, train, triad = study
    monkeypatch.setattr("shortcutscope.compare.before_after.measure_space", pytest.fail)
    monkeypatch.setattr("shortcutscope.compare.before_after.logits_of", pytest.fail)
    table = triad["balanced"]
    bare = ss.phantoms.radiographs(60, size=32, seed=51)
    cases = [
        ("different numbers of classes", (biased, thin_resnet18(num_classes=3, width=4), table), {}),
        ("no column 'ruler'", (biased, unbiased, table), {"concept": "ruler"}),
        ("name the concept", (biased, unbiased, bare), {}),
        ("is several concepts", (biased, unbiased, bare), {"concept": "room"}),
        ("also in train|are given both", (biased, unbiased, table), {"train": table}),
        ("is 0 for all", (biased, unbiased, clean_twin(table)), {"concept": "tag"}),
        ("'before'", (biased, {"before": unbiased}, table), {}),
        ("at least one", (biased, {}, table), {}),
        ("not a torch.nn.Module", (biased, {"x": 3}, table), {}),
        ("empty mapping", (biased, unbiased, {}), {}),
        ("nowhere", (biased, unbiased, table), {"comparing": ss.Comparing(layers=["nowhere"])}),
        (
            "attribution method",
            (biased, unbiased, table),
            {"comparing": replace(UNFITTED, attribution="magic")},
        ),
    ]  # fmt: skip
    for text, arguments, options in cases:
        with pytest.raises(InputError, match=text):
            compare(*arguments, **(QUICK | options))
    shared = train.take(np.arange(40)).with_columns(split=["test"] * 40)
    with pytest.raises(InputError, match=r"patients \(groups\)|are given both"):
        compare(biased, unbiased, shared, train=train, **QUICK)


def test_layers_of_a_wrapper_are_those_of_the_network():
    old = ["stem", "layer1.0", "layer1.1"]
    assert matching_layers(old, old) == {name: name for name in old}
    assert matching_layers(old, [f"model.{name}" for name in old]) == {f"model.{name}": name for name in old}
    assert matching_layers(old, ["features.3", "head"]) == {"head": "layer1.1"}


def test_resampling_works_in_blocks_as_at_once(monkeypatch):
    weights = cluster_weights(np.arange(30), 50, 0)
    values = np.random.default_rng(0).normal(size=30)
    at_once = resample(lambda w: w @ values, weights, 30)
    monkeypatch.setattr("shortcutscope.compare.estimate._BLOCK", 100)
    in_blocks = resample(lambda w: w @ values, weights, 30)
    assert at_once[0] == in_blocks[0]
    np.testing.assert_allclose(at_once[1], in_blocks[1])


def test_what_has_no_counterpart_has_no_change():
    one = Estimate("layer", "use", "zero", 0.5, np.full(20, 0.5), "head")
    (found,) = paired_rows("new", "data", [one], {}, {})
    assert np.isnan(found["change"])
    assert found["better"] is None
