"""What is done to the pixels, and to how many images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shortcutscope.errors import InputError
from shortcutscope.options import OptionGroup
from shortcutscope.pixels.fills import FILLS
from shortcutscope.pixels.transfers import TRANSFERS

__all__ = ["Intervening"]

WAYS = ("auto", "erase", "transfer")


@dataclass(frozen=True)
class Intervening(OptionGroup):
    """How a concept is taken out of the pixels and put into them.

    Attributes
    ----------
    way
        ``"erase"``: masks are filled, and what they hold is inserted elsewhere. ``"transfer"``: images of one
        side are moved to the other by one property of the whole image. ``"auto"`` erases where there are
        masks.
    fill
        ``"convolution"`` of what lies around; ``"similar"``: the same place of the most similar image without
        it; ``"inpaint"``: scikit-image's biharmonic functions.
    transfer
        One of `shortcutscope.pixels.transfers.TRANSFERS`; None chooses.
    per_label
        Most images of each label and side that are edited.
    pictures
        Pictures of before and after that are kept of each direction.

    Raises
    ------
    InputError
        A value that is not allowed.

    Examples
    --------
    >>> ss.Intervening(way="erase", per_label=40).per_label
    40
    """

    way: Literal["auto", "erase", "transfer"] = "auto"
    fill: str = "convolution"
    transfer: str | None = None
    per_label: int = 120
    pictures: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = {"way": WAYS, "fill": FILLS, "transfer": (None, *TRANSFERS)}
        for name, values in allowed.items():
            if (value := getattr(self, name)) not in values:
                allowed_text = ", ".join(str(v) for v in values if v is not None)
                raise InputError(f"{name}={value!r}; allowed are {allowed_text}")
        for name, fewest in (("per_label", 10), ("pictures", 0)):
            if getattr(self, name) < fewest:
                raise InputError(f"{name}={getattr(self, name)}; it must be {fewest} or more")
        if self.way == "erase" and self.transfer is not None:
            raise InputError("transfer= belongs to way='transfer'; leave it out, or the way")
