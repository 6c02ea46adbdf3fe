"""Changes of a whole picture, and the words by which a person would name each: known truth for naming.

Those of the catalogue of artifacts, and others that nothing else in the project plants. Strengths are drawn
anew for every picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.exposure import equalize_adapthist

from shortcutscope.planting.artifacts import get_artifact
from shortcutscope.types import Floats

Draw = Callable[[Floats, np.random.Generator], Floats]


@dataclass(frozen=True)
class Change:
    """One kind of change.

    Attributes
    ----------
    draw
        From a picture (C, H, W) in 0..1 and a generator to the changed one.
    words
        Any of which names it right.
    colours
        Whether it is of colours, so that it needs three channels.
    """

    draw: Draw
    words: frozenset[str]
    colours: bool = False


def _catalogued(name: str) -> Draw:
    artifact = get_artifact(name)

    def draw(picture: Floats, generator: np.random.Generator) -> Floats:
        changed = artifact.apply(picture, sample_id="0", seed=int(generator.integers(2**31)))[0]
        return np.asarray(changed, np.float32)

    return draw


def _scaled(low: float, high: float) -> Draw:
    def draw(picture: Floats, generator: np.random.Generator) -> Floats:
        scaled: Floats = picture.mean() + np.float32(generator.uniform(low, high)) * (
            picture - picture.mean()
        )
        return scaled

    return draw


def _shifted(low: float, high: float) -> Draw:
    return lambda picture, generator: picture + np.float32(generator.uniform(low, high))


def _gamma(low: float, high: float) -> Draw:
    def draw(picture: Floats, generator: np.random.Generator) -> Floats:
        powered: Floats = np.clip(picture, 0, 1) ** np.float32(generator.uniform(low, high))
        return powered

    return draw


def _sharpened(picture: Floats, generator: np.random.Generator) -> Floats:
    soft = np.stack([gaussian_filter(channel, 1.0) for channel in picture])
    sharp: Floats = picture + np.float32(generator.uniform(0.8, 1.5)) * (picture - soft)
    return sharp


def _light_across(picture: Floats, generator: np.random.Generator) -> Floats:
    ramp = np.linspace(-1, 1, picture.shape[-1], dtype=np.float32)
    brighter: Floats = picture + np.float32(generator.uniform(0.08, 0.14)) * ramp
    return brighter


def _light_down(picture: Floats, generator: np.random.Generator) -> Floats:
    ramp = np.linspace(1, -1, picture.shape[-2], dtype=np.float32)[:, None]
    brighter: Floats = picture + np.float32(generator.uniform(0.08, 0.14)) * ramp
    return brighter


def _striped(axis: int) -> Draw:
    def draw(picture: Floats, generator: np.random.Generator) -> Floats:
        lines: Floats = generator.normal(0, 1, (picture.shape[axis],)).astype(np.float32)
        lines *= np.float32(generator.uniform(0.025, 0.04))
        striped: Floats = picture + (lines[:, None] if axis == 1 else lines)
        return striped

    return draw


def _black_border(picture: Floats, generator: np.random.Generator) -> Floats:
    changed = np.zeros_like(picture)
    height, width = picture.shape[-2:]
    top, bottom, left, right = (int(x) for x in generator.integers(2, max(4, height // 9), 4))
    inside = (slice(None), slice(top, height - bottom), slice(left, width - right))
    changed[inside] = picture[inside]
    return changed


def _jpeg(picture: Floats, generator: np.random.Generator) -> Floats:
    coded = (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
    image = Image.fromarray(coded[0] if len(coded) == 1 else coded.transpose(1, 2, 0))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(generator.integers(8, 21)))
    decoded = np.asarray(Image.open(buffer), np.float32) / 255
    return decoded[None] if decoded.ndim == 2 else decoded.transpose(2, 0, 1)


def _equalized(picture: Floats, generator: np.random.Generator) -> Floats:
    clip = float(generator.uniform(0.02, 0.04))
    return np.stack([equalize_adapthist(np.clip(c, 0, 1), clip_limit=clip) for c in picture]).astype(
        np.float32
    )


def _warm(picture: Floats, generator: np.random.Generator) -> Floats:
    amount = np.float32(generator.uniform(0.04, 0.08))
    return picture + amount * np.array([1, 0, -1], np.float32)[:, None, None]


def _greener(picture: Floats, generator: np.random.Generator) -> Floats:
    amount = np.float32(generator.uniform(0.04, 0.08))
    return picture + amount * np.array([-0.5, 1, -0.5], np.float32)[:, None, None]


def _washed_out(picture: Floats, generator: np.random.Generator) -> Floats:
    grey = picture.mean(0, keepdims=True)
    return grey + np.float32(generator.uniform(0.2, 0.5)) * (picture - grey)


_BRIGHT = frozenset({"brighter"})
_DARK = frozenset({"darker"})
_PATTERN = frozenset({"a repeating pattern", "vertical stripes", "horizontal stripes"})

CHANGES: Mapping[str, Change] = {
    "noise": Change(_catalogued("noise"), frozenset({"noisier"})),
    "blur": Change(_catalogued("blur"), frozenset({"blurred"})),
    "sharpened": Change(_sharpened, frozenset({"sharper"})),
    "contrast": Change(_catalogued("contrast"), frozenset({"less contrast"})),
    "more contrast": Change(_scaled(1.4, 1.7), frozenset({"more contrast"})),
    "local contrast": Change(_equalized, frozenset({"more local contrast"})),
    "brightness": Change(_catalogued("brightness"), _BRIGHT),
    "darker": Change(_shifted(-0.19, -0.13), _DARK),
    "gamma up": Change(_gamma(1.5, 1.9), _DARK),
    "gamma down": Change(_gamma(0.55, 0.7), _BRIGHT),
    "white tint": Change(_catalogued("white_tint"), _BRIGHT | {"less contrast"}),
    "bias field": Change(
        _catalogued("bias_field"), frozenset({"brighter on the right", "brighter at the bottom"})
    ),
    "light across": Change(_light_across, frozenset({"brighter on the right"})),
    "light from the top": Change(_light_down, frozenset({"brighter at the top"})),
    "dark corners": Change(_catalogued("dark_corners"), frozenset({"darker corners"})),
    "grid": Change(_catalogued("grid"), _PATTERN),
    "vertical stripes": Change(_striped(2), frozenset({"vertical stripes"})),
    "horizontal stripes": Change(_striped(1), frozenset({"horizontal stripes"})),
    "frame": Change(_catalogued("frame"), frozenset({"more border", "a brighter border"})),
    "black border": Change(_black_border, frozenset({"more border", "a darker border"})),
    "JPEG": Change(_jpeg, frozenset({"blocks of 8 pixels"})),
    "warm": Change(_warm, frozenset({"warmer colours"}), colours=True),
    "green": Change(_greener, frozenset({"greener"}), colours=True),
    "washed out": Change(_washed_out, frozenset({"less colour"}), colours=True),
}


def changed(picture: Floats, kind: str, generator: np.random.Generator) -> Floats:
    """A picture (C, H, W) in 0..1 with a change, clipped and in 256 levels as a file has them."""
    altered = CHANGES[kind].draw(picture, generator)
    return ((np.clip(altered, 0, 1) * 255).round() / 255).astype(np.float32)
