"""A grid in Jupyter in which a person accepts and rejects hits, by click or by keyboard.

The front end is one JavaScript file without dependencies (`review.js`); answers travel to the kernel through
one synchronised trait. Needs the extra ``jupyter``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shortcutscope.annotate.hits import Hits, picture_uri
from shortcutscope.errors import InputError

if TYPE_CHECKING:
    from anywidget import AnyWidget

_HERE = Path(__file__).parent


def review(hits: Hits, *, who: str = "", when: str = "") -> AnyWidget:
    """Show hits in a grid to accept and reject.

    Click a picture, or move with the arrow keys and press ``a`` (carries it), ``r`` (free of it) or ``u``
    (undo). The button "Use these marks" hands the answers to the retrieval that the hits came from.

    Parameters
    ----------
    hits
        Of a retrieval.
    who, when
        Kept with the marks.

    Returns
    -------
    widget
        ``answers`` maps sample id to True or False; ``submit()`` does what the button does; ``message`` is
        what the button said last.

    Raises
    ------
    InputError
        Without the extra ``jupyter``, or for empty hits.
    """
    if not len(hits):
        raise InputError("there are no hits to review; retrieve with k of at least 1")
    return _widget_class()(hits, who, when)


def _items(hits: Hits) -> list[dict[str, Any]]:
    return [
        {
            "id": str(row["sample_id"]),
            "caption": f"{row['rank']}. {row['sample_id']}",
            "score": f"{row['score']:.2f}",
            "src": picture_uri(hits.pictures[str(row["sample_id"])])
            if str(row["sample_id"]) in hits.pictures
            else "",
            "mark": {1.0: True, 0.0: False}.get(row["mark"]),
        }
        for row in hits.frame.to_dict("records")
    ]


def _widget_class() -> type[AnyWidget]:
    """The widget's class, made when it is asked for: the package works without the extra."""
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise InputError(
            'reviewing in a notebook needs anywidget: pip install "shortcutscope[jupyter]"; or write the '
            "hits with to_csv(), fill the column mark, and read them with shortcutscope retrieve --marks"
        ) from error

    class Review(anywidget.AnyWidget):
        """The grid; see :func:`review`."""

        _esm = _HERE / "review.js"
        _css = _HERE / "review.css"
        title = traitlets.Unicode().tag(sync=True)
        items: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
        answers = traitlets.Dict().tag(sync=True)
        message = traitlets.Unicode().tag(sync=True)

        def __init__(self, hits: Hits, who: str, when: str) -> None:
            super().__init__(title=hits.name, items=_items(hits), answers={}, message="")
            self._hits, self._who, self._when = hits, who, when
            self.on_msg(self._received)

        @traitlets.validate("answers")
        def _known(self, proposal: Any) -> dict[str, bool]:
            # What comes from a browser is checked as any other input is.
            shown = {item["id"] for item in self.items}
            return {
                name: value
                for name, value in proposal["value"].items()
                if name in shown and isinstance(value, bool)
            }

        def submit(self) -> str:
            """Give the answers to the retrieval, which ranks again."""
            retrieval = self._hits.retrieval
            if not self.answers:
                self.message = "No sample is marked yet."
            elif retrieval is None:
                self.message = (
                    f"{len(self.answers)} marks are in .answers; these hits come from the disk and have no "
                    "retrieval to give them to."
                )
            else:
                try:
                    retrieval.mark(dict(self.answers), who=self._who, when=self._when)
                    self.message = f"{len(self.answers)} marks taken. {retrieval.advice}"
                except InputError as error:
                    self.message = f"Not taken: {error}"
            return str(self.message)

        def _received(self, _: Any, content: Any, __: Any) -> None:
            if isinstance(content, dict) and content.get("type") == "submit":
                self.submit()

    return Review
