"""Jinja as the report's templates are filled."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from shortcutscope.show.palette import palette


@cache
def environment() -> Environment:
    """Jinja with escaping always on; a name that a template misspells is an error, not an empty string."""
    jinja = Environment(
        loader=PackageLoader("shortcutscope", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals["palette"] = lambda selector: Markup(palette(selector))
    return jinja
