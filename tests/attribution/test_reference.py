"""zennit behind checks: its own results where it is right, reasons where it is not."""

import copy

import pytest
import torch
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import EpsilonPlus, EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer

from shortcutscope.attribution.reference import ZennitReference, reference_composites
from shortcutscope.attribution.slope import Explained
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import frozen
from shortcutscope.models.layers import find_layers


@pytest.fixture(params=["vgg", "resnet"])
def known(request, make_network, unchanged):
    """A frozen network that zennit knows, a batch, a layer with a grid."""
    model, x, name = make_network(request.param)
    unchanged(model)
    (layer,) = find_layers(model, x, name)
    with frozen(model):
        yield model, x, layer


@pytest.mark.parametrize(("name", "composite"), [("plus", EpsilonPlus), ("plus_flat", EpsilonPlusFlat)])
def test_relevance_is_zennits_own(known, name, composite):
    model, x, _ = known
    found = ZennitReference(f"epsilon_{name}").explain(model, x, Explained(1), None)
    twin = copy.deepcopy(model)
    with Gradient(twin, composite(canonizers=[ResNetCanonizer()])) as attributor:
        scores, relevance = attributor(
            x.clone(), lambda logits: logits.detach() * torch.eye(3, dtype=logits.dtype)[1]
        )
    # Up to the eps that zennit leaves in merged batch norms.
    torch.testing.assert_close(found.score, scores[:, 1].detach(), rtol=1e-3, atol=1e-4)
    assert (found.relevance - relevance).abs().max() < 1e-3 * relevance.abs().max()


@pytest.mark.parametrize("composite", sorted(reference_composites()))
def test_nothing_speaks_against_known_networks(known, composite):
    model, x, _ = known
    assert ZennitReference(composite).examine(model, x, Explained()).reasons == ()


def test_relevance_that_biases_keep_is_no_objection(make_network):
    model, x, _ = make_network("vgg")
    nn.init.constant_(model[8].bias, 50.0)
    with frozen(model):
        method = ZennitReference("epsilon_plus")
        found = method.explain(model, x, Explained(), None)
        assert found.relevance.sum() < 0.2 * found.score.sum()
        assert method.examine(model, x, Explained()).reasons == ()


def test_relevance_of_a_layer_is_what_the_rest_of_the_network_passes_down(make_network):
    """Rules written out for a linear layer, and zero biases: the layer's relevance adds up to the score."""
    model, x, _ = make_network("vgg")
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    nn.init.zeros_(model[1].running_mean)
    (layer,) = find_layers(model, x, "7")
    grid = find_layers(model, x, "4")[0]
    with frozen(model):
        method = ZennitReference("epsilon_plus", epsilon=1e-12, stabilizer=1e-12)
        vector = method.explain(model, x, Explained(2), layer)
        features = model[:8](x)
        torch.testing.assert_close(vector.relevance, features * model[8].weight[2], rtol=1e-9, atol=1e-12)
        for place in (grid, None):
            found = method.explain(model, x, Explained(2), place)
            torch.testing.assert_close(found.relevance.flatten(1).sum(1), found.score, rtol=1e-6, atol=1e-9)


def test_class_zero_of_a_single_score_has_the_opposite_relevance():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1)).double()
        x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    with frozen(model):
        down, up = (ZennitReference("epsilon_plus").explain(model, x, Explained(k), None) for k in (0, 1))
    assert torch.equal(down.score, -up.score)
    torch.testing.assert_close(down.relevance, -up.relevance)


def test_the_box_is_each_images_own(known):
    model, x, _ = known
    together = ZennitReference("epsilon_gamma_box").explain(model, x, Explained(0), None).relevance
    alone = ZennitReference("epsilon_gamma_box").explain(model, x[1:2], Explained(0), None).relevance
    torch.testing.assert_close(together[1:2], alone)
    wide = ZennitReference("epsilon_gamma_box", low=-9.0, high=9.0).explain(model, x, Explained(0), None)
    assert not torch.allclose(wide.relevance, together)


@pytest.mark.parametrize("name", ["overwriting", "vit", "swin"])
def test_networks_that_zennit_does_not_know_are_told(make_network, unchanged, name):
    model, x, _ = make_network(name)
    unchanged(model)
    with frozen(model):
        examined = ZennitReference("epsilon_plus").examine(model, x, Explained())
    assert examined.reasons


def test_scores_that_canonizing_changes_are_told(make_network):
    _, x, _ = make_network("vgg")

    class Switched(nn.Sequential):
        """Leaves that are not called in their order: a batch norm is merged into the wrong convolution."""

        def forward(self, x):
            return self[3](self[2](self[0](self[1](x))).mean((2, 3)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        switched = Switched(
            nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Linear(3, 3)
        ).double()
    nn.init.constant_(switched[1].running_mean, 0.5)
    with frozen(switched):
        reasons = ZennitReference("epsilon_plus").examine(switched, x, Explained()).reasons
    assert any("canonized" in reason for reason in reasons)


class Picky(nn.Conv2d):
    """Refuses the weights that a rule puts in place of its own."""

    def forward(self, x):
        if self.weight.min() >= 0:
            raise ValueError("weights of one sign")
        return super().forward(x)


def test_failures_inside_zennit_are_model_errors(make_network):
    _, x, _ = make_network("vgg")
    model = nn.Sequential(Picky(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with frozen(model.double()), pytest.raises(ModelError, match=r"zennit fails.*weights of one sign"):
        ZennitReference("epsilon_plus").explain(model, x, Explained(), None)


def test_m17_biases_of_merged_batch_norms_are_zeroed_too(make_network, unchanged):
    model, x, _ = make_network("resnet")
    model = model.double()
    unchanged(model)
    with frozen(model), ZennitReference("epsilon_plus")._applied(model, x, without_biases=True) as canonized:
        norms = [module for module in canonized.modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms
        biases = [getattr(m, "bias", None) for m in canonized.modules()]
        assert not any(bool(bias.any()) for bias in biases if isinstance(bias, torch.Tensor))
        dark = canonized(torch.zeros_like(x))
        assert torch.equal(dark, torch.zeros_like(dark))


def test_what_zennit_does_not_have_is_refused():
    with pytest.raises(InputError, match="epsilon_plus_flat"):
        ZennitReference("epsilon_minus")
    with pytest.raises(InputError, match="no relevance composite"):
        ZennitReference("guided_backprop")
    with pytest.raises(InputError, match="takes no gamma"):
        ZennitReference("epsilon_plus", gamma=0.5)
