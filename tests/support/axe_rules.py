"""Pages by the rules of axe, with every panel shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python

_SCRIPT = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
_OPEN = """
  () => {
    document.querySelectorAll("[data-ss-panel]").forEach((panel) => { panel.hidden = false; });
    document.querySelectorAll("details").forEach((part) => { part.open = true; });
  }
"""
_RUN = """
  async () => (await axe.run()).violations.map((rule) => `${rule.id}: ${rule.nodes[0].html}`)
"""
_SMALLEST = """
  () => Math.min(...[...document.querySelectorAll("svg.ss-svg text")].map((text) => {
    const svg = text.closest("svg");
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    return parseFloat(getComputedStyle(text).fontSize) * scale;
  }))
"""


def broken_rules(browser: Any, path: Path, scheme: str) -> tuple[list[str], float]:
    """Rules that a page breaks, first as it opens and then with all shown, and its smallest figure text."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(path.as_uri())
    page.evaluate(_SCRIPT + ";0")
    found = list(page.evaluate(_RUN))
    page.evaluate(_OPEN)
    found += page.evaluate(_RUN)
    smallest = page.evaluate(_SMALLEST)
    context.close()
    return found, float("inf") if smallest is None else smallest
