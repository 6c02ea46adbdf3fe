"""Where a layer's tokens are in the image, found by lighting one patch after another.

The number of tokens tells how many of them belong to no patch, but not which: class and register tokens may
stand in front, in the middle or behind, and patches in another order than by rows. So a few patches of one
image are replaced by noise, and the token that changes most is the one that looks at the patch. It is looked
for where tokens of this number first appear, where little is mixed yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from shortcutscope.models.frozen import frozen
from shortcutscope.models.layouts import Layout
from shortcutscope.models.outputs import pick
from shortcutscope.models.tracing import Call, Trace

Respond = Callable[[Sequence[int]], list[int]]


def placed_tokens(
    model: nn.Module,
    trace: Trace,
    detected: Mapping[Call, Layout],
    calls: Sequence[Call],
    overrides: Sequence[str],
) -> dict[Call, Layout]:
    """The chosen calls' layouts, those of tokens as their patches show.

    Parameters
    ----------
    model
        Given back as it was.
    trace, read
        Its recorded forward pass, and what was read from it.
    chosen
        Calls of `read` that are wanted.
    told
        Names of layers whose layout the user gave: nothing is asked of them.

    Returns
    -------
    layouts
        Tokens that follow no grid by rows are left as a row of all of them.
    """
    first: dict[tuple[int, tuple[int, ...]], Call] = {}
    for call, layout in detected.items():
        if _has_grid(call, layout, trace) and call.name not in overrides:
            first.setdefault((call.shape[0], layout.grid), call)
    answers: dict[tuple[int, tuple[int, ...]], tuple[int, ...] | None] = {}
    layouts = {}
    for call in calls:
        layout = detected[call]
        if _has_grid(call, layout, trace) and call.name not in overrides:
            key = (call.shape[0], layout.grid)
            if key not in answers:
                probe = _Probe(model, trace.image[:1], first[key], layout.grid)
                answers[key] = extra_tokens(probe.brightest, call.shape[0], math.prod(layout.grid))
            layout = _with_extra(layout, answers[key], call.shape[0])
        layouts[call] = layout
    return layouts


def extra_tokens(respond: Respond, n_tokens: int, n_patches: int) -> tuple[int, ...] | None:
    """The tokens that belong to no patch; None where the others do not follow the patches by rows.

    Parameters
    ----------
    respond
        The token that looks at each of some patches, counted by rows.
    n_tokens, n_patches
        Of all.

    Examples
    --------
    >>> extra_tokens(lambda patches: [p if p < 2 else p + 1 for p in patches], 5, 4)
    (2,)
    """
    extra = n_tokens - n_patches
    last = n_patches - 1
    patches = sorted({0, min(1, last), n_patches // 3, n_patches // 2, 2 * n_patches // 3, last})
    shift = {p: token - p for p, token in zip(patches, respond(patches), strict=True)}
    # What a deep layer answers may be wrong now and then; in another order it is wrong nearly everywhere.
    offsets = {p: s for p, s in shift.items() if 0 <= s <= extra}
    if 0 not in offsets or last not in offsets or 2 * len(offsets) <= len(patches):
        return None
    while gaps := [(p, q) for p, q in pairwise(sorted(offsets)) if offsets[p] != offsets[q] and q > p + 1]:
        middles = [(p + q) // 2 for p, q in gaps]
        for (p, q), middle, token in zip(gaps, middles, respond(middles), strict=True):
            if not offsets[p] <= token - middle <= offsets[q]:
                return None
            offsets[middle] = token - middle
    steps = sorted(offsets.items())
    if any(one > other for (_, one), (_, other) in pairwise(steps)):
        return None
    places: set[int] = set()
    for (p, s), (q, _) in zip(steps, [*steps[1:], (n_patches, extra)], strict=True):
        places |= set(range(p + s, q + s))
    return tuple(token for token in range(n_tokens) if token not in places)


def _has_grid(call: Call, layout: Layout, trace: Trace) -> bool:
    dims = trace.image.dim() - 2
    return layout.name == "tokens" and len(layout.grid) == dims > 0 and math.prod(layout.grid) > 1


def _with_extra(layout: Layout, extra: tuple[int, ...] | None, n_tokens: int) -> Layout:
    if extra is None:
        return Layout("tokens", 0, (n_tokens,))
    leading = extra == tuple(range(len(extra)))
    return replace(layout, prefix_tokens=len(extra), extra_tokens=() if leading else extra)


@dataclass
class _Probe:
    """One image, and what a module makes of it when single patches are lit."""

    model: nn.Module
    image: Tensor
    call: Call
    grid: tuple[int, ...]

    def brightest(self, patches: Sequence[int]) -> list[int]:
        """The token that changes most for each patch."""
        inputs = [self._lit(patch) for patch in patches]
        tokens = self._tokens(torch.cat([self.image, *inputs]))
        change = (tokens[1:] - tokens[:1]).float().square().sum(-1)
        return [int(one) for one in change.argmax(1)]

    def _lit(self, patch: int) -> Tensor:
        size = self.image.shape[2:]
        image, rest, part = self.image.clone(), patch, []
        for n, width in reversed(list(zip(self.grid, size, strict=True))):
            rest, index = divmod(rest, n)
            part.append(slice(index * width // n, max((index + 1) * width // n, index * width // n + 1)))
        region = (slice(None), slice(None), *reversed(part))
        noise = torch.rand(image[region].shape, generator=torch.Generator().manual_seed(patch))
        # Of the image's own range and more, so that it differs from whatever is there.
        low, high = float(self.image.min()), float(self.image.max())
        image[region] = (low + (2 * noise - 0.5) * max(high - low, 1.0)).to(image)
        return image

    def _tokens(self, images: Tensor) -> Tensor:
        tokens: list[Tensor] = []

        def keep(module: nn.Module, inputs: object, result: object) -> None:
            tokens.append(pick(result, self.call.path).detach().clone())

        with torch.no_grad(), frozen(self.model):
            self.call.module.register_forward_hook(keep)
            self.model(images.clone())
        return tokens[-1]
