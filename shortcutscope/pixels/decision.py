"""From the responses to a word: confirmed on the pixels, not confirmed, or could not be tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from shortcutscope.pixels.effects import Response

Word = Literal["confirmed", "supported", "not confirmed", "could not be tested"]
#: Smallest excess over the null, in standard deviations of the margin within a label, and of how many
#: standard errors. Fixed on 36 planted networks, half of which do not use what was planted.
LEAST, SUREST = 0.3, 3.0
#: Fewest images, and patients, that a direction is tested on.
FEWEST = 10
_DONE = {"without": "taken out of the images that carry it", "with": "put into images that do not carry it"}


def exceeds(response: Response) -> bool:
    """Whether the output follows beyond the null, towards the concept's label."""
    return response.excess >= LEAST and response.z > SUREST


def reverses(response: Response) -> bool:
    """Whether it follows the other way."""
    return response.excess <= -LEAST and response.z < -SUREST


def decide(
    responses: Sequence[Response], untested: Sequence[str], *, within_labels: bool = True
) -> tuple[Word, str]:
    """The word, and the sentence that gives its reason.

    Parameters
    ----------
    responses
        Of the directions that were tested. One in doubt confirms and refutes nothing.
    untested
        Why others were not.
    within_labels
        False where no label has images with and without the concept: what was changed may then hold part of
        the label, which allows no more than "supported".

    Examples
    --------
    >>> decide([], ["the masks are of 3 images, and 10 are needed"])
    ('could not be tested', 'the masks are of 3 images, and 10 are needed')
    """
    if not responses:
        return "could not be tested", "; ".join(untested)
    sure = [r for r in responses if not r.doubt]
    reason = "; ".join([*map(_text, responses), *untested])
    if not sure:
        if all(exceeds(r) for r in responses):
            return "supported", f"edited images can still be told from real ones: {reason}"
        return "could not be tested", f"edited images can still be told from real ones: {reason}"
    if not any(exceeds(r) for r in sure):
        if any(reverses(r) for r in sure):
            return "not confirmed", f"the output follows, but away from the concept's label: {reason}"
        return "not confirmed", reason
    if not all(exceeds(r) for r in sure):
        return "supported", f"in one direction only: {reason}"
    if not within_labels:
        return "supported", (
            "no label has images with and without it, so that what was changed may hold a part of the label: "
            f"{reason}"
        )
    return "confirmed", reason


def _text(response: Response) -> str:
    low, high = response.excess_interval
    return (
        f"{_DONE[response.direction]}, it moves the output by {response.effect:+.2f} standard deviations "
        f"(null {response.null:+.2f}; beyond it {response.excess:+.2f}, {low:+.2f} to {high:+.2f}) and flips "
        f"{response.flips:.0%} of the predictions (null {response.null_flips:.0%})"
        + (f", but {response.doubt}" if response.doubt else "")
    )
