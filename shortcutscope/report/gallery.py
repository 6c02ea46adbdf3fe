"""Pictures of the most affected samples with their relevance laid over them, on one shared scale."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from shortcutscope.disk import intact
from shortcutscope.types import Array, Record

#: Pictures shown per finding, and their longest side: a report is to be read and mailed.
MAX_PICTURES = 8
MAX_SIDE = 128
#: Traces of signals are lines, which a smaller picture would lose.
MAX_WIDTH_OF_TRACES = 480
DIVERGING = matplotlib.colormaps["PuOr_r"]
#: Opacity of the strongest relevance; the picture stays visible underneath.
STRONGEST = 0.85


def read_gallery(path: Path) -> Record:
    """Pictures and overlays as data URIs.

    Parameters
    ----------
    path : Path
        An npz with ``images`` uint8 (K, H, W) or (K, H, W, 3), ``maps`` (K, h, w), ``sample_ids`` and
        ``captions`` (K,), and ``kind``: image, volume or signal, whose maps are by lead and time. Of images
        also ``concept_maps``, ``concept_layer`` and ``no_concept_maps``, which earlier versions lack.

    Returns
    -------
    dict
        ``kind``, ``pictures`` (``sample``, ``caption``, ``image``, ``overlay``, ``concept``), ``top``
        (relevance at the ends of the scale), ``note``. Without relevance ``top`` is None and so is every
        ``overlay``. ``concept_layer`` says where ``concept`` starts, ``no_concept_maps`` why it is None.

    Raises
    ------
    InputError
        When the file is not such an npz.
    """
    damaged = intact(path, "a gallery", "delete it and run the same audit again")
    with damaged, np.load(path, allow_pickle=False) as stored:
        images, maps = stored["images"], stored["maps"].astype(np.float32)
        samples, captions = stored["sample_ids"].astype(str), stored["captions"].astype(str)
        kind = str(stored["kind"]) if "kind" in stored else "image"
        own = stored["concept_maps"].astype(np.float32) if "concept_maps" in stored else np.zeros(0)
        own_layer, why = (
            str(stored[name]) if name in stored else "" for name in ("concept_layer", "no_concept_maps")
        )
    own_top = shared_limit(own)
    maps = np.nan_to_num(maps)
    top = shared_limit(maps) if maps.size else None
    of_signals = kind == "signal"
    side, draw = (MAX_WIDTH_OF_TRACES, behind) if of_signals else (MAX_SIDE, overlay)
    pictures = [
        {
            "sample": str(samples[i]),
            "caption": str(captions[i]),
            "image": data_uri(fit(images[i], side), lossless=of_signals),
            "overlay": None
            if top is None
            else data_uri(draw(fit(images[i], side), maps[i], top), lossless=of_signals),
            "concept": data_uri(overlay(fit(images[i], side), own[i], own_top)) if own.size else None,
        }
        for i in range(min(len(images), MAX_PICTURES))
    ]
    note = (
        "" if len(pictures) == len(images) else f"Showing the first {len(pictures)} of {len(images)} samples."
    )
    return {
        "kind": kind,
        "pictures": pictures,
        "top": top,
        "note": note,
        "concept_layer": own_layer,
        "no_concept_maps": why,
    }


def shared_limit(maps: Array) -> float:
    """Limit of the shared scale: the 99.5 % quantile of |relevance| over all maps, so that one outlier
    pixel does not fade the rest.
    """
    top = float(np.quantile(np.abs(maps), 0.995)) if maps.size else 0.0
    return top if top > 0 else 1.0


def fit(image: Array, side: int = MAX_SIDE) -> Array:
    """(H, W, 3) uint8, no side longer than `side`."""
    picture = Image.fromarray(image).convert("RGB")
    scale = side / max(picture.size)
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
    colour, opacity = _coloured(np.asarray(stretched), top)
    grey = picture.mean(-1, keepdims=True)
    blended: Array = np.round(grey * (1 - opacity) + colour * opacity).astype(np.uint8)
    return blended


def behind(picture: Array, relevance: Array, top: float) -> Array:
    """Lay relevance by lead and time behind the traces of a signal, as an overlay would grey them out.

    Parameters
    ----------
    picture : ndarray
        (H, W, 3) uint8, a row of the same height for each lead.
    relevance : ndarray
        (leads, time).
    top : float
        Relevance that gets the full colour.
    """
    height, width = picture.shape[:2]
    leads = np.arange(height) * len(relevance) // height
    along = Image.fromarray(relevance.astype(np.float32)).resize(
        (width, len(relevance)), Image.Resampling.BOX
    )
    colour, opacity = _coloured(np.asarray(along)[leads], top)
    paper = 255 * (1 - opacity) + colour * opacity
    blend: Array = np.round(paper * (picture.mean(-1, keepdims=True) / 255)).astype(np.uint8)
    return blend


def _coloured(relevance: Array, top: float) -> tuple[Array, Array]:
    """Colour (H, W, 3) and opacity (H, W, 1) of relevance (H, W)."""
    share = np.clip(relevance / top, -1, 1)
    return DIVERGING(share / 2 + 0.5)[..., :3] * 255, STRONGEST * np.abs(share)[..., None]


def data_uri(picture: Array, *, lossless: bool = False) -> str:
    """A small picture without loss (noise can be the very thing to see), a larger one as fine JPEG."""
    buffer = io.BytesIO()
    image = Image.fromarray(picture)
    if (picture == picture[..., :1]).all():
        image = image.convert("L")
    if lossless or max(image.size) <= 96:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=88, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
