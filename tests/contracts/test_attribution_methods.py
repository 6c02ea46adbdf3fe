"""What every attribution method holds to: shapes, any batching, the same again, the model as it was."""

from __future__ import annotations

import pytest
import torch
from model_states import model_state
from torch import Tensor, nn

from shortcutscope.attribution.attribute import Attribution, attribute
from shortcutscope.attribution.methods import METHODS
from shortcutscope.attribution.reference import ZennitReference, reference_composites
from shortcutscope.errors import InputError
from shortcutscope.models.layers import find_layers
from shortcutscope.models.seeding import seeded
from shortcutscope.planting.thin import ThinResNet

OPTIONS = {"integrated_gradients": {"steps": 3}, "smoothgrad": {"copies": 2}}
LAYER = "blocks.1"
NAMES = [*METHODS, "lrp:epsilon", f"zennit:{next(iter(reference_composites()))}"]


def method_of(name: str) -> type:
    return METHODS[name] if name in METHODS else ZennitReference if "zennit" in name else METHODS["lrp"]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with seeded(0):
        return ThinResNet(width=4, blocks=(1, 1)).double().eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
class TestMethod:
    @pytest.fixture(params=["input", "layer"])
    def layer(self, name, request):
        method, layer = method_of(name), None if request.param == "input" else LAYER
        takes = method.takes_input if layer is None else method.takes_layer
        return layer, takes

    def explain(self, model, x, name, layer, **options) -> Attribution:
        return attribute(model, x, method=name, layer=layer, check=False, **OPTIONS.get(name, {}), **options)

    def test_shapes_scores_and_repeats_or_a_refusal(self, name, model, x, layer):
        place, takes = layer
        before, draws = model_state(model), torch.get_rng_state()
        given = x.clone()
        if not takes:
            with pytest.raises(InputError, match=name):
                self.explain(model, x, name, place)
            return
        whole = self.explain(model, x, name, place)
        shape = x.shape[1:] if place is None else find_layers(model, x, place)[0].shape
        assert whole.relevance.shape == (len(x), *shape)
        assert whole.relevance.isfinite().all()
        assert whole.relevance.any()
        assert whole.on_pixels().shape == (len(x), *x.shape[2:])
        assert (whole.requested, whole.reason) == (name, None)
        with torch.no_grad():
            logits = model(x)
        assert torch.equal(whole.target, logits.argmax(1))
        torch.testing.assert_close(whole.score, logits.amax(1))
        again, parts = self.explain(model, x, name, place), self.explain(model, x, name, place, batch_size=3)
        assert torch.equal(again.relevance, whole.relevance)
        torch.testing.assert_close(parts.relevance, whole.relevance, rtol=1e-6, atol=1e-9)
        assert model_state(model) == before
        assert torch.equal(torch.get_rng_state(), draws)
        assert torch.equal(x, given)

    def test_it_explains_the_class_that_is_asked_for(self, name, model, x):
        layer = LAYER if not method_of(name).takes_input else None
        one, other = (self.explain(model, x, name, layer, target=target) for target in (0, 1))
        assert one.target.tolist() == [0] * len(x)
        assert not torch.equal(one.relevance, other.relevance)

    def test_an_option_that_it_does_not_have_is_refused(self, name, model, x):
        with pytest.raises(InputError, match="no option 'colour'"):
            attribute(model, x, method=name, colour="red")
