"""What relevance of all layers costs in time and memory, beside a gradient and beside zennit."""

from __future__ import annotations

import copy
import gc
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shortcutscope.attribution.lrp import Composite, default_composite, get_composite, propagation
from shortcutscope.attribution.slope import Explained
from shortcutscope.benchmarks.architectures import ARCHITECTURES, randomized
from shortcutscope.benchmarks.attributions.conservation import outcome_of
from shortcutscope.benchmarks.peak import NotMeasurableError, peaks_beside, return_memory_at_once
from shortcutscope.benchmarks.runner import Case, Settings
from shortcutscope.benchmarks.suites.scan import TARGET, FrozenBatch, cpu_times, in_process, ratio
from shortcutscope.models.heads.targets import find_logits
from shortcutscope.models.seeding import seeded
from shortcutscope.scan.capture import capture_batch


class _Costs(FrozenBatch):
    """What is timed and weighed beside a forward and backward pass."""

    def __init__(self, case: Case, seed: int) -> None:
        name, size, batch = case["model"], case["input"], case["batch"]
        with seeded(seed):
            model = randomized(ARCHITECTURES[name].build(size))
            super().__init__(model, torch.randn(batch, 3, size, size))
        _, _, composite = case["method"].partition(":")
        self.composite = get_composite(composite) if composite else default_composite(self.model, self.x[:1])

    def forward(self, composite: Composite | None = None) -> Tensor:
        """Scores with their graph."""
        with propagation(composite):
            return find_logits(self.model(self.x.clone().requires_grad_().view_as(self.x)))

    def scan(self) -> object:
        """Relevance of all layers, pooled."""
        return capture_batch(self.model, self.x, self.layers, Explained(TARGET), composite=self.composite)

    def saved_bytes(self, composite: Composite | None) -> int:
        """Memory that a forward pass keeps for the backward pass, beside the parameters."""
        apart = {_address(tensor) for tensor in (*self.model.parameters(), *self.model.buffers(), self.x)}
        apart |= {_address(tensor) for tensor in _living_tensors()}
        storages: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storages[_address(tensor)] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = self.forward(composite)
        # LRP's own functions keep tensors as Python objects, which autograd's hooks do not see.
        for tensor in _living_tensors():
            keep(tensor)
        del logits
        return sum(size for address, size in storages.items() if address not in apart)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _living_tensors() -> Iterator[Tensor]:
    gc.collect()
    for thing in gc.get_objects():
        # Not isinstance: it asks proxies for their class, and some of them answer with a warning.
        if issubclass(type(thing), Tensor) and thing.layout == torch.strided and thing.device.type != "meta":
            yield thing


def propagation_costs(case: Case, settings: Settings) -> Case:
    """Time and memory of one model under one composite."""
    with _Costs(case, settings.seed) as costs, _zennit_on(case, costs.model, costs.x) as (zennit, failure):
        functions = {"fb": costs.forward_backward, "scan": costs.scan}
        if zennit is not None:
            functions["zennit"] = zennit
        times = cpu_times(functions, 5 if settings.quick else 9)
        plain, ruled = costs.saved_bytes(None), costs.saved_bytes(costs.composite)
        figures = {
            "composite": costs.composite.name,
            "layers": len(costs.layers),
            "seconds_fb": statistics.median(times["fb"]),
            "cost_fb": ratio(times["scan"], times["fb"]),
            "zennit_fb": ratio(times["zennit"], times["fb"]) if zennit else None,
            "zennit_to_scan": ratio(times["zennit"], times["scan"]) if zennit else None,
            "zennit_reason": failure,
            "saved_memory": ruled / plain,
        }
    return {**figures, **in_process(_peak, case, settings.seed)}


@contextmanager
def _zennit_on(
    case: Case, model: nn.Module, x: Tensor
) -> Iterator[tuple[Callable[[], object] | None, str | None]]:
    """A forward and backward pass with zennit's rules already on the model, where zennit is right on it."""
    verdict = outcome_of(model, x, "zennit:epsilon_plus")
    if verdict["outcome"] != "ok":
        yield None, verdict["reason"]
        return
    from zennit.composites import EpsilonPlus
    from zennit.torchvision import ResNetCanonizer, VGGCanonizer

    canonizer = VGGCanonizer() if case["model"].startswith("vgg") else ResNetCanonizer()
    with EpsilonPlus(canonizers=[canonizer]).context(copy.deepcopy(model)) as ruled:

        def propagate() -> object:
            image = x.clone().requires_grad_()
            scores = ruled(image)
            start = torch.zeros_like(scores)
            start[:, TARGET] = scores[:, TARGET].detach()
            return torch.autograd.grad(scores, image, start)

        yield propagate, None


def _peak(case: Case, seed: int) -> Case:
    """Peak memory beside that of a forward and backward pass; to be called in a process of its own."""
    torch.set_num_threads(1)
    try:
        return_memory_at_once()
        with _Costs(case, seed) as costs:
            fb, scan_peak = peaks_beside((costs.forward_backward, costs.scan))
    except NotMeasurableError as error:
        return {"peak_memory": None, "memory_reason": str(error)}
    return {"peak_memory": scan_peak / fb}
