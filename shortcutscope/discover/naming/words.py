"""The words for what is measured of a picture and its file, in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Form = Literal["number", "share", "count"]


@dataclass(frozen=True, slots=True)
class Wording:
    """How one property is spoken of.

    Attributes
    ----------
    more, less
        What carriers are where they have more of it, and less.
    family
        Properties of one family say the same in other numbers: the first of them in `WORDS` speaks for all
        that are as good.
    noun
        The property itself, where its own name does not say it.
    form
        A plain number, a share (shown in percent), or a whole number.
    """

    more: str
    less: str
    family: str
    noun: str = ""
    form: Form = "number"


#: Of `shortcutscope.data.properties.plain` and `shortcutscope.data.properties.traces`, and of files.
#: Within a family the plainest comes first.
WORDS: Mapping[str, Wording] = {
    "mean grey": Wording("brighter", "darker", "exposure"),
    "midtones": Wording("lighter midtones", "darker midtones", "exposure"),
    "darkest parts": Wording("lifted blacks", "deeper blacks", "exposure", "grey of the darkest parts"),
    "brightest parts": Wording(
        "brighter highlights", "dimmer highlights", "exposure", "grey of the brightest parts"
    ),
    "black share": Wording("more black", "less black", "exposure", "black pixels", "share"),
    "white share": Wording("more white", "less white", "exposure", "white pixels", "share"),
    "contrast": Wording("more contrast", "less contrast", "contrast", "standard deviation of grey"),
    "local contrast": Wording("more local contrast", "less local contrast", "local contrast"),
    "noise": Wording("noisier", "smoother", "noise", "noise by contrast"),
    "fine detail": Wording("more fine detail", "less fine detail", "noise", "log share of fine detail"),
    "sharpness": Wording("sharper", "blurred", "sharpness", "log sharpness"),
    "blur": Wording("blurred", "sharper", "sharpness"),
    "edges": Wording("harder edges", "softer edges", "sharpness", "steepness of edges"),
    "repeating pattern": Wording("a repeating pattern", "less of a repeating pattern", "pattern"),
    "vertical stripes": Wording("vertical stripes", "fewer vertical stripes", "pattern"),
    "horizontal stripes": Wording("horizontal stripes", "fewer horizontal stripes", "pattern"),
    "blocks": Wording("blocks of 8 pixels", "fewer blocks of 8 pixels", "blocks", "log steps between blocks"),
    "light from left to right": Wording("brighter on the right", "brighter on the left", "light across"),
    "light from top to bottom": Wording("brighter at the bottom", "brighter at the top", "light down"),
    "corners": Wording("brighter corners", "darker corners", "corners", "corners less middle"),
    "border": Wording("more border", "less border", "border", "flat border", "share"),
    "border brightness": Wording(
        "a brighter border", "a darker border", "border", "border less the rest", "number"
    ),
    "saturation": Wording("more colour", "less colour", "saturation", "saturation of colour"),
    "warmth": Wording("warmer colours", "cooler colours", "tint", "red less blue"),
    "green": Wording("greener", "more magenta", "tint", "green less magenta"),
    "small bright marks": Wording("small bright marks", "fewer small bright marks", "bright marks"),
    "small dark marks": Wording("small dark marks", "fewer small dark marks", "dark marks"),
    "file_width": Wording("wider files", "narrower files", "size", "width in pixels", "count"),
    "file_height": Wording("taller files", "shorter files", "size", "height in pixels", "count"),
    "file_aspect": Wording("wider shape", "taller shape", "shape", "width by height"),
    "file_bytes": Wording("larger files", "smaller files", "bytes", "bytes", "count"),
    "file_bytes_per_pixel": Wording("less compressed", "more compressed", "bytes", "bytes a pixel"),
    "file_jpeg_quality": Wording("higher JPEG quality", "lower JPEG quality", "JPEG quality", "", "count"),
    "file_bit_depth": Wording("more bits a value", "fewer bits a value", "bits", "bits", "count"),
    "file_kvp": Wording("higher tube voltage", "lower tube voltage", "tube voltage", "kVp", "count"),
    "file_pixel_spacing": Wording("coarser pixels", "finer pixels", "pixel spacing", "millimetres a pixel"),
    "file_year": Wording("later", "earlier", "year", "year", "count"),
    "level": Wording("a higher level", "a lower level", "level", "median level"),
    "amplitude": Wording("larger", "smaller", "amplitude", "amplitude"),
    "signal noise": Wording("noisier", "smoother", "signal noise", "noise by amplitude"),
    "baseline wander": Wording(
        "more baseline wander", "less baseline wander", "wander", "slow share of the power", "share"
    ),
    "hum": Wording("a hum of one frequency", "less of a hum", "hum", "log peak of the spectrum"),
    "flat share": Wording("flatter stretches", "fewer flat stretches", "flat", "flat samples", "share"),
    "clipped share": Wording("cut off at the ends", "less cut off", "clipping", "samples cut off", "share"),
    "steepest slopes": Wording("steeper slopes", "gentler slopes", "slopes", "steepest slopes"),
}
#: Between the name of a column of words and one of its levels.
LEVEL = "="


def wording_of(property_name: str) -> Wording:
    """The words for a property, or for a level of a column of words.

    Examples
    --------
    >>> wording_of("mean grey").less, wording_of("file_format=JPEG").more
    ('darker', 'file format JPEG')
    """
    if property_name in WORDS:
        return WORDS[property_name]
    column, _, level = property_name.partition(LEVEL)
    noun = f"{column.replace('_', ' ')} {level}".strip()
    return Wording(noun, f"less often {noun}", column, noun, "share")


def shown(value: float, form: Form) -> str:
    """A value as a person would write it.

    Examples
    --------
    >>> shown(0.447, "number"), shown(0.0316, "number"), shown(0.4, "share"), shown(2048.0, "count")
    ('0.45', '0.032', '40 %', '2048')
    """
    if form == "count":
        return f"{value:.0f}"
    if form == "share":
        return f"{100 * value:.1f} %" if 0 < abs(value) < 0.02 else f"{100 * value:.0f} %"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
