"""What a model's last operations make of its logits: read from the operations, not guessed from the numbers.

Scores that lie between 0 and 1 can be logits of an untrained network; scores that left a sigmoid are
probabilities. So every operation of one forward pass is seen, and each tensor remembers what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from shortcutscope.types import Arguments, Record

#: What a tensor is: unbounded, a probability of its own, of one that sums to 1, or the logarithm of either.
Kind = Literal["affine", "sigmoid", "softmax", "log sigmoid", "log softmax"]

#: Operations whose result is unbounded.
_AFFINE = (
    "addmm", "mm", "bmm", "baddbmm", "addbmm", "matmul", "linear", "linear_dynamic", "convolution",
    "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "native_layer_norm",
)  # fmt: skip
#: Operations that say what their result is.
_MADE: Mapping[str, Kind] = {
    "sigmoid": "sigmoid",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "log_sigmoid_forward": "log sigmoid",
    "_log_softmax": "log softmax",
    **dict.fromkeys(_AFFINE, "affine"),
}
#: Operations after which a tensor is what it was: of its shape, and those that keep probabilities such.
_KEPT = {
    "view", "_unsafe_view", "_reshape_alias", "squeeze", "unsqueeze", "select", "slice", "clone", "_to_copy",
    "detach", "alias", "t", "transpose", "permute", "expand", "split", "split_with_sizes", "unbind", "index",
    "index_select", "gather", "cat", "stack", "lift_fresh", "mean", "clamp", "clamp_min", "clamp_max", "max",
    "amax", "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
}  # fmt: skip
#: Operations with an unbounded result where one part of it is unbounded.
_SUMS = {
    "add", "sub", "rsub", "mul", "neg", "sum", "logsumexp", "relu", "leaky_relu", "elu", "gelu", "silu",
    "softplus", "sqrt", "pow", "abs",
}  # fmt: skip


class Watch(TorchDispatchMode):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """Sees every operation within.

    Attributes
    ----------
    of
        What tensors are, see `Kind`; those that are not in it left an operation that says nothing.
    precision
        Of the coarsest operation in half precision or of whole numbers, 0 where there was none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self.of: Any = WeakIdKeyDictionary()
        self.precision = 0.0

    def __torch_dispatch__(
        self, func: Any, types: object, args: Arguments = (), kwargs: Record | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if func.namespace == "quantized" or "quantize" in name:
            self.precision = max(self.precision, 1 / 128)
        if isinstance(result, Tensor) and result.dtype in (torch.float16, torch.bfloat16):
            self.precision = max(self.precision, torch.finfo(result.dtype).eps)
        kind = self._kind(name.rstrip("_"), args)
        if kind is not None:
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor):
                    self.of[tensor] = kind
        elif isinstance(result, Tensor) and result in self.of:  # written in place
            del self.of[result]
        return result

    def _kind(self, name: str, args: object) -> Kind | None:
        if name in _MADE:
            return _MADE[name]
        kinds = [self.of.get(x) for x in tree_leaves(args) if isinstance(x, Tensor) and x.is_floating_point()]
        if name in _KEPT:
            return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else None
        if name == "div":  # by another unbounded tensor may be a normalisation
            return "affine" if kinds[:1] == ["affine"] and "affine" not in kinds[1:] else None
        if name in _SUMS:
            return "affine" if "affine" in kinds else None
        if name == "exp" and kinds and kinds[0] in ("log sigmoid", "log softmax"):
            return "sigmoid" if kinds[0] == "log sigmoid" else "softmax"
        return None


def sums_to_one(scores: Tensor) -> bool:
    """Whether every row of scores (N, K), K > 1, is a distribution."""
    if scores.shape[1] < 2:
        return False
    coarse = 10 * torch.finfo(scores.dtype).eps + 1e-5
    wide = scores.double()
    near = (wide.sum(1) - 1).abs() <= coarse * scores.shape[1] ** 0.5
    return bool((wide >= 0).all()) and bool(near.all())
