"""The widget in which a person accepts and rejects pictures, whatever the answers go to.

The front end is one JavaScript file without dependencies (`review.js`); answers travel to the kernel through
one synchronised trait. Needs the extra ``jupyter``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shortcutscope.errors import InputError
from shortcutscope.review.drawn import Boxes, valid_boxes
from shortcutscope.types import JSON, Record

if TYPE_CHECKING:
    from anywidget import AnyWidget

_HERE = Path(__file__).parent


class Recipient(Protocol):
    """What answers go to."""

    def take(self, answers: dict[str, bool | None], boxes: Boxes) -> str:
        """Keep the answers, and what was drawn, and say so; InputError where they cannot be kept."""


def review_grid(
    recipient: Recipient,
    items: Sequence[JSON],
    words: Mapping[str, str],
    *,
    instead: str,
    opacity: float | None = None,
    takes_back: bool = False,
    larger: Callable[[str], str] | None = None,
) -> AnyWidget:
    """A grid of pictures to accept and reject.

    Parameters
    ----------
    recipient
        What the button gives the answers to.
    items
        One per picture: ``id``, ``caption``, ``score`` (text), ``src`` (a data URI, or empty), ``mark``
        (True, False or None: what was answered before), maybe ``wide`` (shown larger: slices of a volume,
        traces of a signal), maybe ``overlay`` with the ``size`` (H, W) that the SVG ``path`` of a mask
        is drawn in, and maybe ``file``, on which boxes can be drawn: its ``size`` (H, W), the ``boxes`` it
        came with, and a ``place`` that is proposed (or None), all in pixels of the file.
    words
        What is shown: ``question``, ``keys``, ``samples``, ``button``; of a picture's state ``accept``,
        ``reject`` and ``open``; of many ``accepted`` and ``rejected``; below a larger picture ``enlarged``,
        or ``drawing`` where one draws on it.
    instead
        What to do without the extra ``jupyter``.
    opacity
        Of the overlays to begin with; None where there are none.
    takes_back
        Whether undoing reaches what was answered before; the answer is None then.
    larger
        Gives the picture of a sample in the size of its file, as a data URI, when a person asks for it.

    Returns
    -------
    widget
        ``answers`` maps sample id to True, False or None, ``boxes`` that of each sample where they were
        changed to all its boxes (x0, y0, x1, y1); ``submit()`` does what the button does; ``message`` is
        what the recipient said last. Where no widget is shown (a saved notebook on a page), the pictures are.

    Raises
    ------
    InputError
        Without the extra ``jupyter``.
    """
    widget = _widget_class(instead)(items=[dict(item) for item in items], words=dict(words), opacity=opacity)
    widget.takes_back, widget.recipient, widget.larger = takes_back, recipient, larger
    return widget


def _valid_answers(answers: JSON, items: Sequence[JSON], takes_back: bool) -> dict[str, bool | None]:
    """What comes from a browser is checked as any other input is."""
    ids = {item["id"] for item in items}
    return {
        name: value
        for name, value in answers.items()
        if name in ids and (isinstance(value, bool) or (value is None and takes_back))
    }


def _static(words: Mapping[str, str], items: Sequence[JSON], answers: JSON) -> str:
    """The pictures and what is known of them, for a page that runs no widgets."""
    states = {True: words["accept"], False: words["reject"], None: words["open"]}
    cells = "".join(
        f'<figure style="margin:0;width:160px"><img src="{escape(item["src"])}" alt="" '
        'style="max-width:100%">'
        f"<figcaption>{escape(item['caption'])} ({escape(item['score'])})<br>"
        f"{escape(states[answers.get(item['id'], item['mark'])])}</figcaption></figure>"
        for item in items
    )
    return (
        f"<p>{escape(words['question'])} Open the notebook in Jupyter to answer.</p>"
        f'<div style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div>'
    )


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
        boxes = traitlets.Dict().tag(sync=True)
        message = traitlets.Unicode().tag(sync=True)
        opacity = traitlets.Float(allow_none=True, default_value=None).tag(sync=True)
        takes_back = traitlets.Bool().tag(sync=True)
        recipient: Recipient
        larger: Callable[[str], str] | None = None

        @traitlets.validate("answers")
        def _checked(self, proposal: JSON) -> dict[str, bool | None]:
            return _valid_answers(proposal["value"], self.items, self.takes_back)

        @traitlets.validate("boxes")
        def _drawn(self, proposal: JSON) -> Boxes:
            sizes = {item["id"]: item["file"]["size"] for item in self.items if item.get("file")}
            return valid_boxes(proposal["value"], sizes)

        def submit(self) -> str:
            """Give the answers and what was drawn to the recipient."""
            try:
                self.message = self.recipient.take(dict(self.answers), dict(self.boxes))
            except InputError as error:
                self.message = f"Not taken: {error}"
            return str(self.message)

        def _received(self, _: object, content: object, __: object) -> None:
            if not isinstance(content, dict):
                return
            if content.get("type") == "submit":
                self.submit()
            sample_id = content.get("id")
            is_item = any(item["id"] == sample_id for item in self.items)
            if content.get("type") == "picture" and is_item and self.larger is not None:
                self.send({"type": "picture", "id": sample_id, "src": self.larger(str(sample_id))})

        def _repr_mimebundle_(self, **options: Any) -> Any:
            bundle = super()._repr_mimebundle_(**options)
            data = bundle[0] if isinstance(bundle, tuple) else bundle
            if data is not None:
                data["text/html"] = _static(self.words, self.items, self.answers)
            return bundle

        def __init__(self, **traits: Any) -> None:
            super().__init__(**traits)
            self.on_msg(self._received)

    return ReviewGrid
