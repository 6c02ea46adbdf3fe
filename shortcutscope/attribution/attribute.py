"""Every attribution method behind one signature, with LRP checked before it is believed."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn

from shortcutscope.attribution.gradient import Explanation, GradientXActivation, Method, MethodCheck
from shortcutscope.attribution.lrp import Composite
from shortcutscope.attribution.methods import make_method
from shortcutscope.attribution.propagate import Lrp
from shortcutscope.attribution.slope import Explained
from shortcutscope.attribution.tokens import on_grid, on_pixels, prefix_share
from shortcutscope.errors import InputError, ModelError
from shortcutscope.models.frozen import device_of, frozen
from shortcutscope.models.heads.head import Head, Output, as_head
from shortcutscope.models.heads.targets import Target
from shortcutscope.models.layers import Layer, find_layers
from shortcutscope.models.plain import require_plain
from shortcutscope.models.preflight import preflight

if TYPE_CHECKING:
    from shortcutscope.attribution.checks import Checks

#: Of the images, how many the checks look at, and those of the model itself.
CHECKED, TRIED = 4, 8
#: With this share of relevance on prefix tokens a map is empty but for rounding.
EMPTY_MAP = 1 - 1e-6


@dataclass(frozen=True)
class Attribution:
    """Relevance of the input or of a layer for one score per sample.

    Attributes
    ----------
    relevance
        Like the input, or like the layer's output in its own layout; at least float32.
    target
        (N,) int64, the class that is explained.
    score
        (N,) its score.
    method, requested
        The method that was used, and the one asked for.
    reason
        Why another one was used; None if none was.
    checks
        Of LRP, on the first images; None for other methods and without checks.
    layer
        None for the input.
    size
        Of the image: (H, W), (D, H, W) or (L,).
    assumed
        What nobody said of the model's scores, in words.
    head
        Which scores were explained.

    Examples
    --------
    >>> explained = ss.attribute(model, images, method="gradient_x_input")
    >>> explained.maps().shape, explained.on_pixels().shape
    (torch.Size([4, 24, 24]), torch.Size([4, 24, 24]))
    >>> explained.method, explained.reason
    ('gradient_x_input', None)
    """

    relevance: Tensor
    target: Tensor
    score: Tensor
    method: str
    requested: str
    reason: str | None
    checks: Checks | None
    layer: Layer | None
    size: tuple[int, ...]
    assumed: tuple[str, ...] = ()
    head: Head = field(default_factory=Head, repr=False)

    def maps(self) -> Tensor:
        """Relevance of the positions, ``(N, *grid)``, summed over channels; (N,) for a vector.

        Warns where a transformer's prefix tokens hold all of it, and where a map is zero everywhere.
        """
        share = self.prefix_share()
        maps = self.relevance.sum(1) if self.layer is None else on_grid(self.layer, self.relevance)
        empty = int((~maps.flatten(1).any(1)).sum()) if maps.dim() > 1 else 0
        where = "at the input" if self.layer is None else f"in layer {self.layer.name!r}"
        if self.layer is not None and share.min() >= EMPTY_MAP:
            warnings.warn(
                f"in layer {self.layer.name!r} the relevance lies on the class token, which has no place in "
                "the image: the maps are empty; take an earlier layer for them",
                stacklevel=2,
            )
        elif empty:
            warnings.warn(
                f"{self.method} {where}: the map of {empty} of {len(maps)} samples is zero everywhere. Its "
                "positions do not move the score (as in the last block of a transformer that is read out at "
                "its class token: take an earlier layer), or a unit that is off or saturated lets no "
                "gradient through",
                stacklevel=2,
            )
        return maps

    def on_pixels(self) -> Tensor:
        """The maps on the grid of the image, ``(N, *size)``."""
        return on_pixels(self.maps(), self.size)

    def prefix_share(self) -> Tensor:
        """(N,) share of the absolute relevance on tokens that have no place in the image.

        Examples
        --------
        >>> ss.attribute(vit, images, layer="blocks.11").prefix_share()  # doctest: +SKIP
        """
        if self.layer is None:
            return self.relevance.new_zeros(len(self.relevance))
        return prefix_share(self.layer, self.relevance)


class MethodSettings(TypedDict, total=False):
    """Settings of the methods: the fields of `IntegratedGradients`, `SmoothGrad`, `Lrp` and `Reference`."""

    steps: int
    baseline: float | Tensor
    internal_batch_size: int
    copies: int
    noise: float
    times_values: bool
    composite: str | Composite | None
    attention: Literal["cp", "attn"] | None
    epsilon: float | None


class MethodOptions(MethodSettings, total=False):
    """The same, with the seed of what is drawn."""

    seed: int


def attribute(
    model: nn.Module,
    x: Tensor,
    *,
    target: Target = "predicted",
    method: str = "lrp",
    layer: str | Layer | None = None,
    labels: Tensor | None = None,
    task: str = "auto",
    output: Output = None,
    batch_size: int | None = None,
    strict: bool = False,
    check: bool = True,
    **options: Unpack[MethodOptions],
) -> Attribution:
    """Say where in the input, or in a layer, a score comes from.

    Parameters
    ----------
    model
        Any classifier. It runs frozen and in evaluation mode and is given back as it was, also after an
        exception.
    x
        A batch (N, C, ...), on any device.
    target
        ``"predicted"``, ``"label"``, one class, or one class per sample.
    method
        ``"gradient_x_activation"``, ``"gradient_x_input"``, ``"integrated_gradients"``, ``"smoothgrad"``,
        ``"grad_cam"`` (of a layer); ``"lrp"`` with the composite that the network's operations ask for,
        ``"lrp:<composite>"``; ``"zennit:<composite>"`` for comparison; or another of
        `shortcutscope.attribution.methods.METHODS`.
    layer
        A layer's name, or a `Layer` as `find_layers` gives it; None for the input.
    labels
        Class per sample (N,), for ``target="label"``.
    task, output
        See `shortcutscope.models.heads.targets.select_target` and `find_logits`.
    batch_size
        How many images pass through the model at once; None for all. It does not change the result.
    strict
        Raise where the checks of a method fail, instead of falling back to gradient x activation.
    check
        Check the model (whether its scores are logits, repeatable, and have a gradient) and LRP on the first
        images before they are believed.
    **options
        Settings of the method: the fields of `IntegratedGradients`, `SmoothGrad`, `Lrp`, `ZennitReference`.

    Returns
    -------
    attribution
        With ``.reason`` where another method than the one asked for was used.

    Raises
    ------
    InputError
        Unknown method, option, layer or class; a wrong number of labels or targets; all before any work.
    ModelError
        The model gives no gradient, or NaN; with `strict`, the checks fail.

    Examples
    --------
    >>> found = ss.attribute(model, images, method="lrp")
    >>> found.relevance.shape, found.checks.passed
    (torch.Size([4, 1, 24, 24]), True)
    """
    explainer = make_method(method, options)
    _require_batch(x, labels, target, batch_size)
    _require_place(method, explainer, layer)
    require_plain(model)
    with _frozen(model) as device:
        images = x.detach().clone().to(device)
        targets = None if labels is None else torch.as_tensor(labels).to(device)
        head, assumed = _head(model, images, as_head(output, task=task), check, batch_size)
        task, output = head.read_task, head
        explained = Explained(_on(target, device), targets, task, output)
        _require_classes(model, images, explained)
        place = _find(model, images, layer, output)
        run = _Run(model, images, explained, place, batch_size or len(x))
        if isinstance(explainer, Lrp):
            explainer = explainer.resolved(model, images[:1])
        examination = run.examine(explainer) if check else MethodCheck()
        relevance, reason = None, "; ".join(examination.reasons) or None
        if reason is None:
            relevance, reason = run.explain(explainer)
        used = explainer.name if isinstance(explainer, Lrp) else method
        if relevance is None:
            if strict or not explainer.dispensable:
                raise ModelError(f"{used} cannot be trusted on this model: {reason}")
            failed, used = used, "gradient_x_input" if place is None else "gradient_x_activation"
            relevance, why = run.explain(GradientXActivation())
            if relevance is None:
                raise ModelError(
                    f"neither {failed} ({reason}) nor {used} ({why}) can be trusted on this model"
                )
            warnings.warn(
                f"{failed} cannot be trusted on this model: {reason}; {used} is used instead", stacklevel=2
            )
    return Attribution(
        relevance=relevance.relevance.to(x.device),
        target=relevance.target.to(x.device),
        score=relevance.score.to(x.device),
        method=used,
        requested=method,
        reason=reason,
        checks=examination.checks,
        layer=place,
        size=tuple(x.shape[2:]),
        assumed=assumed,
        head=head,
    )


@dataclass(frozen=True)
class _Run:
    """One question put to a frozen model, batch by batch."""

    model: nn.Module
    x: Tensor
    explained: Explained
    layer: Layer | None
    batch_size: int

    def examine(self, method: Method) -> MethodCheck:
        rows = slice(0, min(CHECKED, self.batch_size))
        try:
            return method.examine(self.model, self.x[rows], self._explained(rows))
        except ModelError as error:
            if not method.dispensable:
                raise
            return MethodCheck((str(error),))

    def explain(self, method: Method) -> tuple[Explanation | None, str | None]:
        """The explanation, or why there is none."""
        parts = []
        for start in range(0, len(self.x), self.batch_size):
            rows = slice(start, start + self.batch_size)
            try:
                part = method.explain(self.model, self.x[rows], self._explained(rows), self.layer)
            except ModelError as error:
                if not method.dispensable:
                    raise
                return None, str(error)
            finite = torch.isfinite(part.relevance.flatten(1)).all(1)
            if not finite.all():
                first = start + int(finite.long().argmin())
                return None, f"relevance is NaN or infinite, first for the sample at position {first}"
            parts.append(part)
        fields = [torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS]
        return Explanation(*fields), None

    def _explained(self, rows: slice) -> Explained:
        target, labels = self.explained.target, self.explained.labels
        return dataclasses.replace(
            self.explained,
            target=target[rows] if isinstance(target, Tensor) and target.dim() else target,
            labels=None if labels is None else labels[rows],
        )


def _head(
    model: nn.Module, images: Tensor, head: Head, check: bool, batch_size: int | None
) -> tuple[Head, tuple[str, ...]]:
    """How the scores are read; settled and checked on the first images, where nobody did that before."""
    if head.settled or not check:
        return head, ()
    checks = preflight(model, images[:TRIED], head, batch_size=batch_size or TRIED)
    if checks.no_gradient is not None:
        raise ModelError(
            f"nothing can be attributed: {checks.no_gradient}. Let the gradient through (no no_grad() or "
            "detach() in forward, the network before it was quantised); an audit needs no gradient"
        )
    for text in checks.assumed:
        warnings.warn(text, stacklevel=3)
    return checks.head, checks.assumed


_FIELDS = [field.name for field in dataclasses.fields(Explanation)]


@contextmanager
def _frozen(model: nn.Module) -> Iterator[torch.device]:
    """The model frozen, whatever modes the caller works under; yields its device."""
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        yield device_of(model)


def _on(target: Target, device: torch.device) -> Target:
    return target if isinstance(target, str | int) else torch.as_tensor(target).to(device)


def _require_batch(x: Tensor, labels: Tensor | None, target: Target, batch_size: int | None) -> None:
    if x.dim() < 2 or not len(x) or not x.is_floating_point():
        raise InputError(
            f"x has shape {tuple(x.shape)} and type {x.dtype}; give one batch of floating-point images, for "
            "instance (N, C, H, W)"
        )
    if labels is not None and tuple(torch.as_tensor(labels).shape) != (len(x),):
        raise InputError(
            f"labels of shape {tuple(torch.as_tensor(labels).shape)} are given for {len(x)} samples; give "
            "one a sample"
        )
    if isinstance(target, str) and target not in ("predicted", "label"):
        raise InputError(f"target is {target!r}; allowed are 'predicted', 'label', a class, one a sample")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it is a whole number from 1 upwards, or None")


def _require_place(name: str, method: Method, layer: str | Layer | None) -> None:
    if layer is None and not method.takes_input:
        raise InputError(
            f"{name} explains a layer, best one of the last that has a grid; name it with layer=... "
            "(`find_layers(model, x)` lists the layers)"
        )
    if layer is not None and not method.takes_layer:
        raise InputError(f"{name} explains the input; for a layer use 'gradient_x_activation'")


def _require_classes(model: nn.Module, x: Tensor, explained: Explained) -> None:
    """Refuse classes that the model does not have, and as many as there are not samples, by one image."""
    with torch.no_grad():
        logits = explained.logits(model(x[:1].clone()))
    explained.select(logits[:1].expand(len(x), -1))


def _find(model: nn.Module, x: Tensor, layer: str | Layer | None, output: Output) -> Layer | None:
    if layer is None:
        return None
    if isinstance(layer, Layer):
        if layer.name not in dict(model.named_modules(remove_duplicate=False)):
            raise InputError(
                f"the model has no layer {layer.name!r}; `find_layers(model, batch)` lists those it has"
            )
        return layer
    layers = find_layers(model, x, layer, output=output)
    if len(layers) != 1 or layer in ("blocks", "all"):
        some = ", ".join(repr(one.name) for one in layers[:5])
        raise InputError(f"layer={layer!r} stands for {len(layers)} layers ({some} ...); name one")
    return layers[0]
