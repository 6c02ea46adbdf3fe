"""Pictures of the most affected samples with their relevance laid over them, on one shared scale."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from shortcutscope.errors import InputError

#: Pictures shown per finding, and their longest side: a report is to be read and mailed.
MAX_PICTURES = 8
MAX_SIDE = 128
DIVERGING = matplotlib.colormaps["PuOr_r"]
#: Opacity of the strongest relevance; the picture stays visible underneath.
STRONGEST = 0.85

Array = np.ndarray[Any, np.dtype[Any]]


def read_gallery(path: Path) -> dict[str, Any]:
    """Pictures and overlays as data URIs.

    Parameters
    ----------
    path : Path
        An npz with ``images`` uint8 (K, H, W) or (K, H, W, 3), ``maps`` (K, h, w), ``sample_ids`` and
        ``captions`` (K,).

    Returns
    -------
    dict
        ``pictures`` (``sample``, ``caption``, ``image``, ``overlay``), ``top`` (relevance at the ends of the
        scale), ``note``.

    Raises
    ------
    InputError
        When the file is not such an npz.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            images, maps = stored["images"], stored["maps"].astype(np.float32)
            samples, captions = stored["sample_ids"].astype(str), stored["captions"].astype(str)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no gallery ({error}): delete it and run the same audit again") from error
    maps = np.nan_to_num(maps)
    top = shared_limit(maps)
    pictures = [
        {
            "sample": str(samples[i]),
            "caption": str(captions[i]),
            "image": data_uri(fit(images[i])),
            "overlay": data_uri(overlay(fit(images[i]), maps[i], top)),
        }
        for i in range(min(len(images), MAX_PICTURES))
    ]
    note = (
        "" if len(pictures) == len(images) else f"Showing the first {len(pictures)} of {len(images)} samples."
    )
    return {"pictures": pictures, "top": top, "note": note}


def shared_limit(maps: Array) -> float:
    """Limit of the shared scale: the 99.5 % quantile of |relevance| over all maps, so that one outlier
    pixel does not fade the rest.
    """
    top = float(np.quantile(np.abs(maps), 0.995)) if maps.size else 0.0
    return top if top > 0 else 1.0


def fit(image: Array) -> Array:
    """(H, W, 3) uint8, no side longer than `MAX_SIDE`."""
    picture = Image.fromarray(image).convert("RGB")
    scale = MAX_SIDE / max(picture.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def overlay(picture: Array, relevance: Array, top: float) -> Array:
    """Lay a relevance map over a grey version of a picture: the colour is the sign, the opacity the size.

    Parameters
    ----------
    picture : ndarray
        (H, W, 3) uint8.
    relevance : ndarray
        (h, w); stretched to the picture.
    top : float
        Relevance that gets the full colour.
    """
    height, width = picture.shape[:2]
    stretched = Image.fromarray(relevance.astype(np.float32)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    share = np.clip(np.asarray(stretched) / top, -1, 1)
    colour = DIVERGING(share / 2 + 0.5)[..., :3] * 255
    grey = picture.mean(-1, keepdims=True)
    opacity = STRONGEST * np.abs(share)[..., None]
    blended: Array = np.round(grey * (1 - opacity) + colour * opacity).astype(np.uint8)
    return blended


def data_uri(picture: Array) -> str:
    """A small picture without loss (noise can be the very thing to see), a larger one as fine JPEG."""
    buffer = io.BytesIO()
    drawn = Image.fromarray(picture)
    if (picture == picture[..., :1]).all():
        drawn = drawn.convert("L")
    if max(drawn.size) <= 96:
        drawn.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        drawn.save(buffer, "JPEG", quality=88, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
