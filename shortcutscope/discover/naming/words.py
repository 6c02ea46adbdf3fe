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
    names
        Whether it gives names; others follow from those that do, or say less, and are listed alone.
    """

    more: str
    less: str
    family: str
    noun: str = ""
    form: Form = "number"
    names: bool = True


#: Of `shortcutscope.data.properties.plain` and `shortcutscope.data.properties.traces`, and of files.
#: Within a family what explains the others comes first.
WORDS: Mapping[str, Wording] = {
    "mean grey": Wording("brighter", "darker", "exposure"),
    "contrast": Wording("more contrast", "less contrast", "contrast", "standard deviation of grey"),
    "local contrast": Wording("more local contrast", "less local contrast", "local contrast"),
    "sharpness": Wording("sharper", "blurred", "detail", "log sharpness"),
    "noise": Wording("noisier", "smoother", "detail", "noise"),
    "repeating pattern": Wording("a repeating pattern", "less of a repeating pattern", "pattern"),
    "vertical stripes": Wording(
        "vertical stripes", "fewer vertical stripes", "vertical stripes", "log roughness of columns"
    ),
    "horizontal stripes": Wording(
        "horizontal stripes", "fewer horizontal stripes", "horizontal stripes", "log roughness of rows"
    ),
    "blocks": Wording("blocks of 8 pixels", "fewer blocks of 8 pixels", "blocks", "log steps between blocks"),
    "light from left to right": Wording("brighter on the right", "brighter on the left", "light across"),
    "light from top to bottom": Wording("brighter at the bottom", "brighter at the top", "light down"),
    "corners": Wording("brighter corners", "darker corners", "corners", "corners less middle"),
    "border": Wording("more border", "less border", "border", "flat border", "share"),
    "border brightness": Wording("a brighter border", "a darker border", "border", "border less the rest"),
    "empty background": Wording(
        "more empty background", "less empty background", "border", "empty background", "share"
    ),
    "warmth": Wording("warmer colours", "cooler colours", "colour", "red less blue"),
    "green": Wording("greener", "more magenta", "colour", "green less magenta"),
    "saturation": Wording("more colour", "less colour", "colour", "saturation of colour"),
    "midtones": Wording("lighter midtones", "darker midtones", "exposure", names=False),
    "darkest parts": Wording(
        "lifted blacks", "deeper blacks", "exposure", "grey of the darkest parts", names=False
    ),
    "brightest parts": Wording(
        "brighter highlights", "dimmer highlights", "exposure", "grey of the brightest parts", names=False
    ),
    "black share": Wording("more black", "less black", "exposure", "black pixels", "share", names=False),
    "white share": Wording("more white", "less white", "exposure", "white pixels", "share", names=False),
    "fine detail": Wording(
        "more fine detail", "less fine detail", "detail", "log share of fine detail", names=False
    ),
    "evenness": Wording(
        "even detail", "detail at edges", "detail", "log detail off edges by at edges", names=False
    ),
    "edges": Wording("harder edges", "softer edges", "detail", "steepness of edges", names=False),
    "small bright marks": Wording(
        "small bright marks", "fewer small bright marks", "bright marks", names=False
    ),
    "small dark marks": Wording("small dark marks", "fewer small dark marks", "dark marks", names=False),
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
#: Of properties of one family that tell as well, in one direction (True: carriers have more), which speaks
#: for them; elsewhere the first of them in `WORDS` does.
SPEAKS: Mapping[tuple[str, bool], tuple[str, ...]] = {("colour", False): ("saturation", "warmth", "green")}
#: Families of the tone of the whole, which much else follows from.
TONE = frozenset({"exposure", "contrast"})
#: Noise speaks where detail is as fine off the edges as at them, and sharpness where it is not.
EVEN, NOISE = "evenness", "noise"
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
    return Wording(noun, f"less often {noun}", column, "share", "share")


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
