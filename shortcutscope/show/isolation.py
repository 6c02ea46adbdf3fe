"""An element of a notebook that the page around it cannot style, and that styles nothing around it.

The element lives in a shadow root: a parser makes it of ``<template shadowrootmode>`` (nbconvert, Sphinx, VS
Code), a line of script where HTML is inserted later (JupyterLab). Where neither happens, as on GitHub or in a
notebook that is not trusted, the result's plain text is shown.
"""

from __future__ import annotations

from html import escape
from typing import Final

from shortcutscope.show.palette import palette

#: Makes shadow roots where no parser did; then what is in them can be set up.
_ATTACH: Final = (
    'for (const host of document.querySelectorAll(".ss-host")) {'
    ' const inner = host.querySelector(":scope > template");'
    ' if (inner && !host.shadowRoot) host.attachShadow({ mode: "open" }).append(inner.content); }'
)
#: Nothing that text inherits from the page reaches the inside: neither fonts nor spacing nor colours.
_RESET: Final = ".ss-inside-host { all: initial; display: block; color-scheme: inherit; }"
_FONT: Final = '400 14px/1.5 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial'
#: Bare elements, for results that bring no sheet of their own.
SHEET: Final = f"""
.ss-sheet {{ background: var(--ss-surface); color: var(--ss-ink); font: {_FONT}, sans-serif;
  padding: 14px 16px; border: 1px solid var(--ss-line); border-radius: 6px; }}
.ss-sheet * {{ box-sizing: border-box; }}
.ss-sheet h3 {{ font-size: 16px; line-height: 1.3; margin: 0 0 6px; overflow-wrap: anywhere; }}
.ss-sheet h4 {{ font-size: 14px; margin: 12px 0 4px; }}
.ss-sheet p, .ss-sheet ul {{ margin: 4px 0; max-width: 60em; overflow-wrap: anywhere; }}
.ss-sheet ul {{ padding-left: 1.2em; }}
.ss-sheet .lead {{ font-size: 15px; font-weight: 600; }}
.ss-sheet .muted, .ss-sheet figcaption {{ color: var(--ss-muted); font-size: 12.5px; }}
.ss-sheet dl {{ display: flex; flex-wrap: wrap; gap: 6px 26px; margin: 8px 0; }}
.ss-sheet dt {{ font-size: 12.5px; color: var(--ss-muted); }}
.ss-sheet dd {{ margin: 0; font-weight: 600; max-width: 40em; overflow-wrap: anywhere; }}
.ss-sheet .scroll {{ overflow-x: auto; }}
.ss-sheet table {{ border-collapse: collapse; font-size: 13px; margin: 6px 0; }}
.ss-sheet th, .ss-sheet td {{ text-align: left; vertical-align: top; padding: 4px 14px 4px 0;
  border-bottom: 1px solid var(--ss-line); font-variant-numeric: tabular-nums; }}
.ss-sheet thead th {{ color: var(--ss-muted); font-weight: 400; }}
.ss-sheet tbody th {{ font-weight: 600; }}
.ss-sheet .pictures {{ display: flex; flex-wrap: wrap; gap: 10px; margin: 8px 0; align-items: flex-start; }}
.ss-sheet figure {{ margin: 0; max-width: 15em; overflow-wrap: anywhere; }}
.ss-sheet img {{ display: block; max-width: 100%; }}
"""


def isolated(content: str, plain: str, *, style: str = "", script: str = "") -> str:
    """HTML as an element of its own in the document of a notebook.

    Parameters
    ----------
    content
        HTML, escaped already.
    plain
        Text that is shown where the page allows no more; escaped here.
    style
        Sheet of the content alone.
    script
        Run once the content is in its place: it finds it as ``.ss-host``'s ``shadowRoot``.

    Examples
    --------
    >>> html = isolated("<p>1 &lt; 2</p>", "1 < 2")
    >>> "<pre>1 &lt; 2</pre>" in html, "shadowrootmode" in html
    (True, True)
    """
    # Lumino's keys stay out of it: "Enter" on a button is no command of the notebook.
    return (
        f'<div class="ss-host" data-lm-suppress-shortcuts="true"><style>{palette(".ss-host")}</style>'
        f'<template shadowrootmode="open"><style>{_RESET}{style}</style>'
        f'<div class="ss-inside-host">{content}</div></template>'
        f"<pre>{escape(plain)}</pre></div>"
        f"<script>(() => {{ {_ATTACH} }})();{script}</script>"
    )


def sheet(*parts: str, plain: str) -> str:
    """Parts of HTML below each other, on the plain sheet; see `shortcutscope.show.parts`.

    Parameters
    ----------
    *parts
        Escaped already; empty ones are left out.
    plain
        As in `isolated`.
    """
    return isolated(f'<div class="ss-sheet">{"".join(parts)}</div>', plain, style=SHEET)


def page(title: str, *parts: str) -> str:
    """The same sheet as a page of its own, which loads nothing from anywhere.

    Parameters
    ----------
    title
        Of the page, and its first heading; escaped here.
    *parts
        As in `sheet`.
    """
    name = escape(title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f'<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>{name}</title>'
        f"<style>{palette('body')} body {{ margin: 0; background: var(--ss-surface); }} {SHEET}"
        ".ss-sheet { border: 0; padding: 24px; } .ss-sheet h1 { font-size: 22px; margin: 0 0 8px; "
        "overflow-wrap: anywhere; }</style></head>"
        f'<body><main class="ss-sheet"><h1>{name}</h1>{"".join(parts)}</main></body></html>\n'
    )
