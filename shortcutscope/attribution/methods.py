"""Attribution methods by name, and a method with its settings from a name and options."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from shortcutscope.attribution.gradient import (
    GradCam,
    GradientXActivation,
    GradientXInput,
    IntegratedGradients,
    Method,
    SmoothGrad,
)
from shortcutscope.attribution.propagate import Lrp
from shortcutscope.attribution.reference import ZennitReference
from shortcutscope.errors import InputError
from shortcutscope.registry import Entry, Registry
from shortcutscope.types import JSON

#: Methods by name, each a frozen dataclass of its settings; besides ``"lrp:<composite>"`` and
#: ``"zennit:<composite>"``.
METHODS = Registry[type[Method]](
    "attribution method",
    "shortcutscope.attribution_methods",
    {
        "gradient_x_activation": Entry(GradientXActivation, "the first-order share of each value"),
        "gradient_x_input": Entry(GradientXInput, "the same, of the input only"),
        "integrated_gradients": Entry(IntegratedGradients, "the mean gradient on the way from a baseline"),
        "smoothgrad": Entry(SmoothGrad, "the gradient averaged over noisy copies"),
        "grad_cam": Entry(GradCam, "activations of a layer by their channel's mean gradient"),
        "lrp": Entry(Lrp, "layer-wise relevance propagation by operation"),
    },
)


def make_method(name: str, options: JSON) -> Method:
    """Give the method of a name its settings.

    Raises
    ------
    InputError
        For an unknown name or option.
    """
    kind, _, composite = name.partition(":") if isinstance(name, str) else (name, "", "")
    settings = dict(options)
    if composite and kind in ("lrp", "zennit"):
        if "composite" in settings:
            raise InputError(f"method {name!r} names a composite already; leave out composite=...")
        settings["composite"] = composite
    if composite and kind == "zennit":
        method: type[Any] = ZennitReference
    elif kind in METHODS and (kind == "lrp" or not composite):
        method = METHODS[kind]
    else:
        allowed = [*METHODS, "lrp:<composite>", "zennit:<composite>"]
        close = difflib.get_close_matches(str(name), allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"attribution method {name!r} is unknown; {hint}allowed are {', '.join(allowed)}")
    fields = [field.name for field in dataclasses.fields(method)]
    for option in settings:
        if option not in fields:
            takes = f"takes {', '.join(fields)}" if fields else "takes no options"
            raise InputError(f"attribution method {name!r} has no option {option!r}; it {takes}")
    instance: Method = method(**settings)
    return instance
