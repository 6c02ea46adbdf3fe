"""The widget in which a person accepts and rejects pictures, whatever the answers go to.

The front end is one JavaScript file without dependencies (`review.js`); answers travel to the kernel through
one synchronised trait. Needs the extra ``jupyter``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shortcutscope.errors import InputError
from shortcutscope.types import JSON, Record

if TYPE_CHECKING:
    from anywidget import AnyWidget

_HERE = Path(__file__).parent


class Recipient(Protocol):
    """What answers go to."""

    def take(self, answers: dict[str, bool | None]) -> str:
        """Keep the answers and say so; InputError where they cannot be kept."""


def review_grid(
    recipient: Recipient,
    items: Sequence[JSON],
    words: Mapping[str, str],
    *,
    instead: str,
    opacity: float | None = None,
    takes_back: bool = False,
) -> AnyWidget:
    """A grid of pictures to accept and reject.

    Parameters
    ----------
    recipient
        What the button gives the answers to.
    items
        One per picture: ``id``, ``caption``, ``score`` (text), ``src`` (a data URI, or empty), ``mark``
        (True, False or None: what was answered before), maybe ``wide`` (shown larger: slices of a volume,
        traces of a signal), and maybe ``overlay`` with the ``size`` (H, W) that the SVG ``path`` of a mask
        is drawn in.
    words
        What is shown: ``question``, ``keys``, ``samples``, ``button``; of a picture's state ``accept``,
        ``reject`` and ``open``; of many ``accepted`` and ``rejected``.
    instead
        What to do without the extra ``jupyter``.
    opacity
        Of the overlays to begin with; None where there are none.
    takes_back
        Whether undoing reaches what was answered before; the answer is None then.

    Returns
    -------
    widget
        ``answers`` maps sample id to True, False or None; ``submit()`` does what the button does;
        ``message`` is what the recipient said last.

    Raises
    ------
    InputError
        Without the extra ``jupyter``.
    """
    return _widget_class(instead)(recipient, items, words, opacity, takes_back)


def _valid_answers(answers: JSON, ids: Set[str], takes_back: bool) -> dict[str, bool | None]:
    """What comes from a browser is checked as any other input is."""
    return {
        name: value
        for name, value in answers.items()
        if name in ids and (isinstance(value, bool) or (value is None and takes_back))
    }


def _widget_class(instead: str) -> type[AnyWidget]:
    """The widget's class, made when it is asked for: the package works without the extra."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise InputError(
            f'reviewing in a notebook needs anywidget: pip install "shortcutscope[jupyter]"; or {instead}'
        ) from error

    class ReviewGrid(anywidget.AnyWidget):
        """The grid; see :func:`review_grid`."""

        _esm = _HERE / "review.js"
        _css = _HERE / "review.css"
        words: traitlets.Dict[str, str] = traitlets.Dict().tag(sync=True)
        items: traitlets.List[Record] = traitlets.List().tag(sync=True)
        answers = traitlets.Dict().tag(sync=True)
        message = traitlets.Unicode().tag(sync=True)
        opacity = traitlets.Float(allow_none=True, default_value=None).tag(sync=True)
        takes_back = traitlets.Bool().tag(sync=True)

        def __init__(
            self,
            recipient: Recipient,
            items: Sequence[JSON],
            words: Mapping[str, str],
            opacity: float | None,
            takes_back: bool,
        ) -> None:
            super().__init__(
                items=[dict(item) for item in items],
                words=dict(words),
                opacity=opacity,
                takes_back=takes_back,
            )
            self.recipient = recipient
            self.on_msg(self._received)

        @traitlets.validate("answers")
        def _checked(self, proposal: JSON) -> dict[str, bool | None]:
            return _valid_answers(proposal["value"], {item["id"] for item in self.items}, self.takes_back)

        def submit(self) -> str:
            """Give the answers to the recipient."""
            try:
                self.message = self.recipient.take(dict(self.answers))
            except InputError as error:
                self.message = f"Not taken: {error}"
            return str(self.message)

        def _received(self, _: object, content: object, __: object) -> None:
            if isinstance(content, dict) and content.get("type") == "submit":
                self.submit()

    return ReviewGrid
