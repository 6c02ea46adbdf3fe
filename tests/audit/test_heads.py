"""Audits of networks that return something else than one logit per class, end to end on tiny ones."""

import numpy as np
import pytest
import torch
from model_states import model_state
from torch import nn

import shortcutscope as ss
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.loading import has_random_weights, load_model

QUIET = ss.Running(progress=False)
OPTIONS = {"statistics": ss.Statistics(100, 20), "running": QUIET, "concepts": ["tag"]}


class Net(nn.Module):
    def __init__(self, n_outputs=14):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.conv = nn.Conv2d(1, 6, 3, 2, 1)
            self.act = nn.ReLU()
            self.more = nn.Conv2d(6, 8, 3, 2, 1)
            self.fc = nn.Linear(8 * 64, n_outputs)

    def features(self, x):
        return self.act(self.more(self.act(self.conv(x)))).flatten(1)

    def forward(self, x):
        return self.fc(self.features(x))


class Alone(Net):
    def forward(self, x):
        return super().forward(x)[:, 8:9]


class Probabilities(Net):
    def forward(self, x):
        return super().forward(x).sigmoid()


class TwoHeads(Net):
    def forward(self, x):
        z = super().forward(x)
        return {"site": z[:, :5], "cls": z[:, 8:9]}


class Detached(Net):
    def features(self, x):
        with torch.no_grad():
            return super().features(x)

    def forward(self, x):
        return super().forward(x)[:, 8:9]


@pytest.fixture(scope="module")
def table():
    return ss.phantoms.plant(
        ss.phantoms.radiographs(64, size=32, seed=3),
        ss.phantoms.get_artifact("tag"),
        prevalence={0: 0.5, 1: 0.5},
    )


@pytest.fixture(scope="module")
def alone(table, tmp_path_factory):
    return ss.audit(Alone().eval(), table, tmp_path_factory.mktemp("alone") / "run", **OPTIONS)


def same_finding(found, expected):
    """The same measurements but for rounding."""
    assert found.verdict == expected.verdict
    for path in (("used", "effect"), ("used", "p"), ("encoded", "auroc")):
        one, other = (float(getattr(f, path[0])[path[1]]) for f in (found, expected))
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    gaps = [f.effect["auroc_gap"]["value"] for f in (found, expected)]
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-6)
    assert gaps[0] is not None
    assert found.extent == expected.extent


def test_m1_the_output_of_the_label_is_audited_as_if_it_were_alone(table, alone, tmp_path):
    model = Net().eval()
    before = model_state(model)
    found = ss.audit(model, table, tmp_path / "run", head=ss.Head(label=8, task="multilabel"), **OPTIONS)
    assert model_state(model) == before
    np.testing.assert_allclose(found.scan.logits, alone.scan.logits, rtol=1e-5, atol=1e-6)
    same_finding(found["tag"], alone["tag"])
    assert found.run["head"] == {
        "part": None, "label": 8, "names": None, "link": "identity", "task": "multilabel", "outputs": 14,
    }  # fmt: skip
    assert "output 8 of 14" in repr(found)
    assert ss.Audit.open(found.path).head == found.head
    assert found.scan.head == found.head
    with pytest.raises(InputError, match="audited output 8 of 14, but label=3 is asked for"):
        found.asked_head(ss.Head(label=3))
    with pytest.raises(InputError, match="asks for output 3"):
        found.scan.same_head(ss.Head(label=3))


def test_m1_positions_are_never_guessed_and_nothing_is_written(table, tmp_path):
    several, target = ss.Head(task="multilabel"), ss.Scanning(target=8)
    for options in ({}, {"head": several}, {"head": several, "scanning": target}):
        with pytest.raises(InputError, match=r"14 outputs.*labels are 0 and 1: say which output"):
            ss.audit(Net().eval(), table, tmp_path / "run", **OPTIONS, **options)
    with pytest.raises(InputError, match="positive=8: no audited sample has that label"):
        ss.audit(
            Net().eval(),
            table,
            tmp_path / "run",
            **OPTIONS | {"statistics": ss.Statistics(positive=8)},
            head=several,
            scanning=target,
        )
    assert not (tmp_path / "run").exists()


def test_m5_the_part_of_the_output_reaches_every_stage(table, alone, tmp_path):
    found = ss.audit(TwoHeads().eval(), table, tmp_path / "run", head="cls", **OPTIONS)
    np.testing.assert_allclose(found.scan.logits, alone.scan.logits, rtol=1e-5, atol=1e-6)
    same_finding(found["tag"], alone["tag"])
    assert found.report().stat().st_size > 0


def test_m6_probabilities_give_what_their_logits_give(table, alone, tmp_path):
    found = ss.audit(Probabilities().eval(), table, tmp_path / "run", head=ss.Head(label=8), **OPTIONS)
    np.testing.assert_allclose(found.scan.logits, alone.scan.logits, rtol=1e-3, atol=1e-4)
    same_finding(found["tag"], alone["tag"])
    (said,) = [text for text in found.run["warnings"] if "probabilities" in text]
    assert said in found.run["assumptions"]


def test_m6_attributions_explain_the_logit(table):
    x = torch.stack([table[i][0] for i in range(4)])
    expected = ss.attribute(Alone().eval(), x, method="gradient_x_input", target=1)
    head = ss.Head(label=8)
    with pytest.warns(UserWarning, match="probabilities"):
        found = ss.attribute(Probabilities().eval(), x, method="gradient_x_input", target=1, output=head)
    torch.testing.assert_close(found.relevance, expected.relevance, rtol=1e-3, atol=1e-5)
    assert "probabilities" in found.assumed[0]
    with (
        pytest.warns(UserWarning, match="probabilities"),
        pytest.raises(ModelError, match="remove the last layer"),
    ):
        ss.attribute(Probabilities().eval(), x, method="lrp", output=head, strict=True)


def test_m9_a_network_without_gradient_is_audited_without_relevance(table, alone, tmp_path):
    with pytest.warns(UserWarning, match="no relevance was measured"):
        found = ss.audit(Detached().eval(), table, tmp_path / "run", **OPTIONS)
    same_finding(found["tag"], alone["tag"])
    assert found.attribution.used == "none"
    assert not found.scan.has_relevance
    said = "no relevance was measured: the scores have no gradient with respect to the image"
    assert said in repr(found)
    assert any(said in text for text in found.run["warnings"])
    assert all(said in text for text in found.run["not_measured"].values())
    assert said in found.report().read_text("utf-8")
    with pytest.raises(InputError, match="no gradient with respect to the image"):
        found.scan.relevance(found.scan.layers[-1])
    x = torch.stack([table[i][0] for i in range(2)])
    for method in ("gradient_x_input", "lrp", "integrated_gradients"):
        with pytest.raises(ModelError, match=r"nothing can be attributed.*an audit needs no gradient"):
            ss.attribute(Detached().eval(), x, method=method)


def test_m14_a_dead_network_is_refused_before_the_scan(table, tmp_path):
    model = Alone().eval()
    nn.init.constant_(model.more.bias, -100.0)
    with pytest.raises(ModelError, match=r"the same scores.*There is nothing to audit"):
        ss.audit(model, table, tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_m16_networks_without_weights_are_known(tmp_path):
    model = load_model("torchvision:squeezenet1_1", num_classes=2)
    assert has_random_weights(model)
    model.load_state_dict(model.state_dict())
    assert not has_random_weights(model)


def test_m5_debiasing_trains_the_output_that_is_asked_for(table):
    model = Net().eval()
    before = model_state(model)
    training = ss.Training(steps=3, batch_size=8, augmentation="none")
    head = ss.Head(label=8, task="multilabel")
    options = {"recipe": "erm", "training": ss.Retraining(training, "model"), "running": QUIET}
    student = ss.debias(model, table, head=head, **options)
    assert model_state(model) == before
    x = torch.stack([table[i][0] for i in range(4)])
    assert student.model(x).shape == (4, 14)
    assert student.record["head"]["label"] == 8
    assert any("output 8 of 14 alone" in note for note in student.notes)
    moved = (student.model.fc.weight - model.fc.weight).abs().sum(1) > 1e-6
    assert moved[8]
    with pytest.raises(InputError, match="say which output the label is"):
        ss.debias(model, table, recipe="erm", training=training, running=ss.Running(progress=False))


def test_m5_students_are_compared_by_the_output_that_was_audited(table, tmp_path):
    model, other = Net().eval(), Net().eval()
    nn.init.constant_(other.fc.bias, 0.5)
    audited = ss.audit(model, table, tmp_path / "run", head=ss.Head(label=8, task="multilabel"), **OPTIONS)
    options = {
        "concept": "tag",
        "comparing": ss.Comparing(refit=False, twins=False),
        "statistics": ss.Statistics(n_bootstrap=20),
        "running": QUIET,
    }
    tied = ss.compare(audited, other, table, model=model, **options)
    head = ss.Head(label=8, task="multilabel")
    by_hand = ss.compare(model, other, table, head=head, **options)
    rows = [
        c.frame.query("metric == 'auroc' and part == 'overall'")["value"].tolist() for c in (tied, by_hand)
    ]
    assert rows[0] == rows[1]
    with pytest.raises(InputError, match="audited output 8 of 14, but label=3 is asked for"):
        ss.compare(audited, other, table, model=model, head=ss.Head(label=3), **options)
    with pytest.raises(InputError, match="say which output the label is"):
        ss.compare(model, other, table, **options)
