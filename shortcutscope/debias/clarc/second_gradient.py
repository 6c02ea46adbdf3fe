"""Penalties on a gradient need its gradient, which fused attention does not have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["twice_differentiable"]


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Compute attention by plain products inside the block: flash attention has no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield
