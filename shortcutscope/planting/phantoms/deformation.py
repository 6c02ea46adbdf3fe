"""Smooth deformations of a frame from -1 to 1 along each axis: of all of it, and of one region.

Images are made backwards: a deformation tells for each place of the new image which place of the template
is seen there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter, map_coordinates

from shortcutscope.types import Array

# Velocities are so smooth that a few nodes along each axis hold them.
NODES = 16
# Smoothness of the velocities, in nodes.
SIGMA = 3.0
# Number of times that the flow is doubled; the first step then moves by less than a 32nd of the way.
SQUARINGS = 5


def places(size: int, dims: int) -> Array:
    """Centres of the pixels, float32 (dims, size, ...), from -1 to 1 along each axis."""
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return np.stack(np.meshgrid(*[axis] * dims, indexing="ij"))


@lru_cache(maxsize=8)
def velocities(dims: int, components: int, seed: int) -> Array:
    """Smooth random velocity fields (components, dims, nodes, ...) of a root mean square of 1.

    They fade towards the edges, so that nothing flows into the frame or out of it.
    """
    generator = np.random.default_rng([seed, dims])
    white = generator.standard_normal((components, dims, *[NODES] * dims))
    fields = gaussian_filter(white, (0, 0, *[SIGMA] * dims), mode="reflect")
    fade = np.cos(np.pi / 2 * np.linspace(-1, 1, NODES)) ** 0.5
    for axis in range(dims):
        fields *= np.expand_dims(fade, tuple(k for k in range(dims) if k != axis))
    spread = np.sqrt((fields**2).mean(axis=tuple(range(1, dims + 2)), keepdims=True))
    return np.asarray(fields / spread, np.float32)


def flow(velocity: Array) -> Array:
    """Displacement after following a velocity (dims, nodes, ...) for a unit of time.

    The exponential by scaling and squaring (Arsigny et al. 2006), so that no place is folded over another.
    """
    dims = len(velocity)
    nodes = np.indices(velocity.shape[1:], np.float32)
    displacement = velocity / 2**SQUARINGS
    for _ in range(SQUARINGS):
        moved = nodes + displacement * (NODES - 1) / 2
        displacement = displacement + np.stack(
            [map_coordinates(displacement[k], moved, order=1, mode="nearest") for k in range(dims)]
        )
    return np.asarray(displacement, np.float32)


@lru_cache(maxsize=8)
def _upsampling(size: int) -> Array:
    """(size, nodes): cubic spline through the nodes, read at the centres of the pixels."""
    spline = make_interp_spline(np.linspace(-1, 1, NODES), np.eye(NODES), k=3)
    return np.asarray(spline((np.arange(size) + 0.5) * 2 / size - 1), np.float32)


def upsampled(field: Array, size: int) -> Array:
    """A field (dims, nodes, ...) at the centres of `size` pixels along each axis."""
    for axis in range(1, field.ndim):
        field = np.moveaxis(np.tensordot(_upsampling(size), field, (1, axis)), 0, axis)
    return np.asarray(field, np.float32)


@dataclass(frozen=True)
class Region:
    """A ball that can grow and shrink inside itself; nothing outside of it moves.

    Attributes
    ----------
    centre
        In the order of the axes.
    radius
        Of the ball.
    amplitude
        How much one unit of the effect scales the middle of the region: by exp(amplitude). The map stays one
        to one while the effect is above ``-1 / amplitude``.
    """

    centre: tuple[float, ...]
    radius: float
    amplitude: float

    def pulled(self, at: Array, effect: float) -> Array:
        """Where the template is seen from places (dims, ...) once the region has grown by this effect."""
        if effect == 0:
            return at
        middle = self._middle(at)
        offset = at - middle
        square = (offset**2).sum(0) / np.float32(self.radius**2)
        window = np.maximum(1 - square, 0) ** 2
        return np.asarray(middle + offset * np.exp(-np.float32(self.amplitude * effect) * window), np.float32)

    def inside(self, at: Array) -> Array:
        """Which places (dims, ...) lie in the ball."""
        return np.asarray(((at - self._middle(at)) ** 2).sum(0) < self.radius**2)

    def _middle(self, at: Array) -> Array:
        return np.asarray(self.centre, np.float32).reshape(-1, *[1] * (at.ndim - 1))
