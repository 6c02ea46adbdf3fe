"""What is found out about a model before any work: one tiny network for each way in which scores mislead."""

import numpy as np
import pytest
import torch
from model_states import model_state
from torch import nn
from torch.nn import functional

from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.heads.head import Head, as_head, inverted
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.preflight import TRIED, preflight


class Net(nn.Module):
    """A linear network of two channels, whose logits pass through whatever a test puts behind them."""

    def __init__(self, n_outputs=2, after=lambda logits: logits, scale=1.0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(n_outputs)
            self.conv = nn.Conv2d(1, 4, 3, stride=2)
            self.fc = nn.Linear(4 * 9, n_outputs)
        self.after, self.scale = after, scale

    def features(self, x):
        return torch.relu(self.conv(x)).flatten(1)

    def logits(self, x):
        return self.scale * self.fc(self.features(x))

    def forward(self, x):
        return self.after(self.logits(x))


@pytest.fixture
def images():
    return torch.rand(TRIED, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def tried(model, images, head=None, **options):
    before, generator = model_state(model.eval()), torch.random.get_rng_state()
    try:
        with frozen(model) as borrowed:
            return preflight(borrowed, images, head or Head(), **options)
    finally:
        assert model_state(model) == before
        assert torch.equal(torch.random.get_rng_state(), generator)


def read(model, images, head):
    with torch.no_grad():
        return find_logits(model(images), head)


# Which output a label belongs to


@pytest.mark.parametrize(
    ("n_outputs", "labels", "options"),
    [
        (14, [0, 1], {}),
        (18, [0, 1], {}),
        (3, [0, 1], {}),
        (14, [0, 1], {"task": "multilabel"}),
        (2, [0, 1], {"task": "multilabel"}),
        (14, [0, 1, 2], {}),
        (1000, list(range(10)), {}),
    ],
)
def test_m1_labels_are_never_compared_with_positions_by_chance(images, n_outputs, labels, options):
    with pytest.raises(InputError, match=f"{n_outputs} outputs.*say which output the label is") as refused:
        tried(Net(n_outputs), images, Head(**options), labels=labels)
    assert "--label-output" in str(refused.value)


def test_m16_imagenet_outputs_for_two_classes_are_refused(images):
    with pytest.raises(InputError, match=r"1000 outputs and the table has 2 classes \(cat, dog\)"):
        tried(Net(1000), images, labels=[0, 1], classes=["cat", "dog"])


@pytest.mark.parametrize(
    ("n_outputs", "labels", "classes"),
    [(2, [0, 1], None), (2, [1], None), (5, range(5), None), (5, [0, 1], list("abcde")), (1, [0, 1], None)],
)
def test_m1_labels_that_are_positions_stay_so(images, n_outputs, labels, classes):
    found = tried(Net(n_outputs), images, labels=list(labels), classes=classes)
    assert not found.head.changes
    assert not found.assumed


def test_m1_classes_without_samples_are_assumed_and_said(images):
    found = tried(Net(5), images, labels=[0, 1, 4])
    assert found.assumed == ("labels are read as positions of the 5 outputs, of which 3 have samples here",)


def test_m1_one_of_several_labels_is_read_as_its_own_logit(images):
    model = Net(14)
    head = tried(model, images, Head(label=8, task="multilabel"), labels=[0, 1]).head
    assert torch.equal(read(model, images, head), model.logits(images)[:, 8:9])
    assert head.read_task == "binary"
    assert Head.from_json(head.to_json()) == head
    assert str(head) == "output 8 of 14"


def test_m1_one_of_exclusive_classes_is_read_as_its_lead(images):
    model = Net(4)
    head = tried(model, images, Head(label=2, task="multiclass"), labels=[0, 1]).head
    logits = model.logits(images)
    lead = logits[:, 2] - logits[:, [0, 1, 3]].amax(1)
    assert torch.allclose(read(model, images, head)[:, 0], lead)


def test_m1_what_the_outputs_are_is_asked_where_nothing_tells(images):
    with pytest.raises(InputError, match=r"--task multilabel.*--task multiclass"):
        tried(Net(14), images, Head(label=8), labels=[0, 1])
    apart = tried(Net(14, torch.sigmoid), images, Head(label=8), labels=[0, 1]).head
    exclusive = tried(Net(14, lambda z: z.softmax(1)), images, Head(label=8), labels=[0, 1]).head
    assert (apart.task, exclusive.task) == ("multilabel", "multiclass")


def test_m1_outputs_are_found_by_the_names_that_the_model_knows(images):
    model = Net(3)
    model.pathologies = ["Atelectasis", "Effusion", "Pneumonia"]
    head = tried(model, images, Head(label="pneumonia"), labels=[0, 1]).head
    assert (head.index, head.label_name, head.task) == (2, "Pneumonia", "multilabel")
    with pytest.raises(InputError, match="known are Atelectasis, Effusion, Pneumonia"):
        tried(model, images, Head(label="Edema"), labels=[0, 1])
    with pytest.raises(InputError, match="3 outputs \\(Atelectasis, Effusion, Pneumonia\\)"):
        tried(model, images, labels=[0, 1])
    with pytest.raises(InputError, match="2 names, but the model has 3 outputs"):
        tried(model, images, Head(names=("a", "b")), labels=[0, 1])
    with pytest.raises(InputError, match="no position of an output \\(0 to 2\\)"):
        tried(model, images, Head(label=3), labels=[0, 1])


def test_m1_the_same_names_in_another_order_are_refused(images):
    model = Net(2)
    model.class_names = ["malignant", "benign"]
    with pytest.raises(InputError, match="the same names in another order"):
        tried(model, images, labels=[0, 1], classes=["benign", "malignant"])


def test_m1_a_head_refuses_to_be_contradicted():
    assert as_head(Head(label=3), names=["a", "b"]) == Head(label=3, names=("a", "b"))
    with pytest.raises(InputError, match="label=2 is given, but the head says label=3"):
        as_head(Head(label=3), label=2)


# Probabilities


@pytest.mark.parametrize(
    ("after", "link"),
    [
        (torch.sigmoid, "sigmoid"),
        (lambda z: torch.stack([z.sigmoid(), (z + 1).sigmoid()]).mean(0), "sigmoid"),
        (lambda z: z.softmax(1), "softmax"),
        (lambda z: z.log_softmax(1).exp(), "softmax"),
        (lambda z: z.exp() / z.exp().sum(1, keepdim=True), "softmax"),
        (lambda z: torch.cat([1 - z[:, :1].sigmoid(), z[:, :1].sigmoid()], 1), "softmax"),
        (lambda z: z.softmax(1)[:, 1], "sigmoid"),
        (lambda z: z.log_softmax(1), "identity"),
        (lambda z: z, "identity"),
    ],
)
def test_m6_the_link_is_found(images, after, link):
    found = tried(Net(3, after), images)
    assert found.head.link == link
    assert bool(found.assumed) == (link != "identity")


@pytest.mark.parametrize("after", [functional.hardsigmoid, lambda z: 1 / (1 + (-z).exp())])
def test_m6_numbers_between_0_and_1_by_unknown_operations_are_refused(images, after):
    with pytest.raises(ModelError, match=r"between 0 and 1.*remove the last layer"):
        tried(Net(1, after), images)
    assert tried(Net(1, after), images, Head(link="sigmoid")).head.link == "sigmoid"


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_m6_logits_come_back_with_their_gradient(images, n_outputs):
    link, after = ("sigmoid", torch.sigmoid) if n_outputs == 1 else ("softmax", lambda z: z.softmax(1))
    model = Net(n_outputs, after, scale=5.0)
    head = tried(model, images).head
    x = images.clone().requires_grad_()
    logits, back = model.logits(x), find_logits(model(x), head)
    centred = logits - logits.mean(1, keepdim=True) if link == "softmax" else logits
    torch.testing.assert_close(back, centred, rtol=1e-3, atol=1e-4)
    expected, given = (torch.autograd.grad(z[:, 0].sum(), x, retain_graph=True)[0] for z in (centred, back))
    torch.testing.assert_close(given, expected, rtol=1e-2, atol=1e-4)


def test_m6_two_sigmoids_are_not_two_classes(images):
    with pytest.raises(InputError, match=r"say which output the label is.*--task multiclass"):
        tried(Net(2, torch.sigmoid), images, labels=[0, 1])


def test_m6_an_untrained_networks_logits_are_no_probabilities(images):
    model = Net(1, scale=0.01)
    nn.init.constant_(model.fc.bias, 50.0)
    scores = model(images)
    assert scores.min() > 0
    assert scores.max() < 1
    assert tried(model, images).head.link == "identity"


@pytest.mark.parametrize("after", [functional.logsigmoid, lambda z: z.log_softmax(1)[:, 1]])
def test_m6_logarithms_without_a_threshold_are_refused(images, after):
    with pytest.raises(ModelError, match=r"logarithms of probabilities.*remove the last layer"):
        tried(Net(2, after), images)


def test_m6_probabilities_that_lost_their_order_are_refused(images):
    with pytest.raises(ModelError, match=r"0 or 1.*remove the last layer"):
        tried(Net(1, torch.sigmoid, scale=1e4), images)
    centred = Net(1, lambda z: (3e4 * (z - 0.1)).sigmoid())
    with pytest.raises(ModelError, match=r"exactly 0 or 1|decisions, 0 or 1"):
        tried(centred, images)
    with pytest.raises(ModelError, match="decisions, 0 or 1, and no scores"):
        tried(Net(2, lambda z: functional.one_hot(z.argmax(1) ^ (z[:, 0] > z[0, 0]), 2).float()), images)


def test_m6_a_stated_link_must_hold(images):
    with pytest.raises(InputError, match="outside 0 and 1"):
        tried(Net(1, scale=100.0), images, Head(link="sigmoid"))


def test_m6_saturated_probabilities_stay_finite():
    p = torch.tensor([[0.0], [1e-40], [0.5], [1.0]])
    assert torch.isfinite(inverted(p, "sigmoid")).all()
    assert inverted(p, "sigmoid")[2] == 0
    assert torch.isfinite(inverted(torch.tensor([[0.0, 1.0]]), "softmax")).all()


# Scores that are not an image's own


class Noise(Net):
    def forward(self, x):
        return super().forward(x) + 1e-3 * torch.randn(len(x), 1)


class Dropout(Net):
    def features(self, x):
        return functional.dropout(super().features(x), 0.5)


class MonteCarlo(Net):
    def forward(self, x):
        return torch.stack([functional.dropout(self.logits(x), 0.1) for _ in range(4)]).mean(0)


class BatchNorm(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def features(self, x):
        return torch.relu(self.norm(self.conv(x))).flatten(1)


class VectorNorm(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(36, track_running_stats=False)

    def features(self, x):
        return self.norm(super().features(x))


class Standardised(Net):
    def forward(self, x):
        return super().forward((x - x.mean()) / x.std())


class Squeezed(Net):
    def forward(self, x):
        return super().forward(x)[:, :1].squeeze()


@pytest.mark.parametrize("network", [Dropout, MonteCarlo, Noise])
def test_m7_random_scores_are_refused(images, network):
    with pytest.raises(ModelError, match="draws random numbers in evaluation mode"):
        tried(network(), images)


@pytest.mark.parametrize("network", [BatchNorm, Standardised])
def test_m7_scores_that_depend_on_the_batch_are_refused(images, network):
    with pytest.raises(ModelError, match="depends on the others of its batch"):
        tried(network(), images)


@pytest.mark.parametrize("network", [VectorNorm, Squeezed])
def test_m7_a_batch_of_one_must_be_possible(images, network):
    with pytest.raises(ModelError, match=r"batch of one.*squeeze\(1\)|squeeze\(1\)"):
        tried(network(), images)


def test_m7_rounding_is_no_randomness(images):
    model = Net(3, scale=1e4).to(torch.bfloat16)
    tried(model, images.to(torch.bfloat16))
    tried(Net(3), images, autocast=torch.bfloat16)
    tried(Net(3).double(), images.double(), batch_size=5)


# Scores without a gradient, and scores that do not move


class NoGrad(Net):
    def features(self, x):
        with torch.no_grad():
            return super().features(x)


class Detached(Net):
    def features(self, x):
        return super().features(x).detach()


class Rounded(Net):
    def features(self, x):
        return (20 * super().features(x)).round()


@pytest.mark.parametrize("network", [NoGrad, Detached])
def test_m9_a_missing_gradient_is_said(images, network):
    found = tried(network(), images)
    assert "no gradient with respect to the image" in found.no_gradient


def test_m10_a_gradient_of_zero_is_said(images):
    assert "its gradient is zero" in tried(Rounded(), images).no_gradient
    assert tried(Net(), images).no_gradient is None


def test_m14_constant_scores_are_said_as_they_are(images):
    model = Net()
    nn.init.constant_(model.conv.bias, -100.0)
    with pytest.raises(ModelError, match="gives all 32 images tried the same scores") as refused:
        tried(model, images)
    assert "NaN" not in str(refused.value)
    tried(model, images[:1].expand(TRIED, -1, -1, -1))  # of one image nothing can be said


def test_m14_scores_that_hardly_move_are_no_constants(images):
    model = Net(scale=1e-3)
    nn.init.constant_(model.fc.bias, 1.0)
    tried(model, images)


def test_a_settled_head_is_only_asked_for_its_gradient(images):
    found = tried(Net(14), images, Head(label=8, task="multilabel"), labels=np.array([0, 1])).head
    again = tried(Net(14), images, found)
    assert again.head == found
    assert again.assumed == ()
