"""The report in a real browser, offline: tabs, cards and sorting by mouse and by keyboard."""

from __future__ import annotations

import re

import pytest

from shortcutscope.facade import Audit
from shortcutscope.report.html import write_report

#: How JupyterLab shows HTML: as text of an element, and its scripts made anew so that they run.
INSERT = """
  (cells) => {
    const place = document.querySelector("#cells");
    place.innerHTML = cells;
    for (const script of place.querySelectorAll("script")) {
      const again = document.createElement("script");
      again.textContent = script.textContent;
      script.replaceWith(again);
    }
  }
"""
TABS = ["findings", "network", "numbers", "provenance", "reading"]


@pytest.fixture(scope="module")
def report(finished_run):
    return write_report(finished_run)


@pytest.fixture(params=[(1280, "light"), (480, "dark")], ids=["wide-light", "narrow-dark"])
def context(browser, request):
    width, scheme = request.param
    opened = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    yield opened
    opened.close()


@pytest.fixture
def page(context, report):
    """The report; on leaving, nothing was asked of the network and nothing was complained about."""
    opened = context.new_page()
    requests, complaints = [], []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(report.as_uri())
    yield opened
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    assert complaints == []


def part(page, name):
    return page.locator(f"[data-test={name}]")


def shown(page):
    return [name for name in TABS if part(page, f"panel-{name}").is_visible()]


def test_opens_on_the_findings_without_sideways_scrolling(page):
    assert shown(page) == ["findings"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_tabs_by_mouse(page):
    for name in [*TABS[1:], TABS[0]]:
        part(page, f"tab-{name}").click()
        assert shown(page) == [name]
        assert part(page, f"tab-{name}").get_attribute("aria-selected") == "true"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_tabs_by_keyboard(page):
    part(page, "tab-findings").focus()
    for key, name in [
        ("ArrowRight", "network"), ("ArrowRight", "numbers"), ("ArrowLeft", "network"), ("End", "reading"),
        ("ArrowRight", "findings"), ("ArrowLeft", "reading"), ("Home", "findings"),
    ]:  # fmt: skip
        page.keyboard.press(key)
        assert shown(page) == [name]
        assert page.evaluate("document.activeElement.dataset.test") == f"tab-{name}"
    # One stop for all tabs, then the panel.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.test") == "panel-findings"


def test_a_card_leads_to_its_finding(page):
    part(page, "tab-numbers").click()
    card = part(page, "card-link").nth(2)
    card.focus()
    page.keyboard.press("Enter")
    assert shown(page) == ["findings"]
    assert part(page, "finding").nth(2).evaluate("element => element.open")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


def test_findings_open_by_keyboard(page):
    finding = part(page, "finding").nth(1)
    finding.locator("summary").focus()
    page.keyboard.press("Enter")
    assert finding.evaluate("element => element.open")
    assert finding.locator("[data-test=gallery] img").first.evaluate("image => image.naturalWidth") > 0


def column(page, index):
    return part(page, "profile").locator(f"tbody tr td:nth-child({index + 1})").all_inner_texts()


def test_profile_sorts_both_ways_and_by_depth(page):
    part(page, "tab-numbers").click()
    button = part(page, "sort-2")
    button.click()
    ascending = [float(text) for text in column(page, 2)]
    assert ascending == sorted(ascending)
    button.press("Enter")
    assert [float(text) for text in column(page, 2)] == sorted(ascending, reverse=True)
    assert button.locator("xpath=..").get_attribute("aria-sort") == "descending"
    part(page, "sort-1").click()
    assert list(dict.fromkeys(column(page, 1)))[:3] == ["stem", "layer1.0", "layer1.1"]


def test_text_does_not_overlap_in_figures(page):
    """Labels of every figure keep apart, in the page's own font."""
    overlaps = """
      () => {
        document.querySelectorAll("[data-ss-panel]").forEach((panel) => { panel.hidden = false; });
        document.querySelectorAll("details").forEach((part) => { part.open = true; });
        const found = [];
        for (const figure of document.querySelectorAll("svg.ss-svg")) {
          const level = [...figure.querySelectorAll("text")].filter((t) => !/rotate/.test(t.outerHTML));
          const boxes = level.map((t) => [t.textContent, t.getBoundingClientRect()]);
          boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
            const x = Math.min(p.right, q.right) - Math.max(p.left, q.left);
            const y = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
            if (x > 1 && y > 3) found.push(`${figure.getAttribute("aria-label")}: ${a} / ${b}`);
          }));
        }
        return found;
      }
    """
    assert page.evaluate(overlaps) == []


def test_without_scripts_everything_is_shown(browser, report):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    assert shown(page) == TABS
    context.close()


@pytest.mark.parametrize("way", ["parsed", "inserted"])
def test_two_fragments_in_a_dark_notebook(browser, finished_run, way):
    """Each works by itself, follows the notebook's theme, and neither it nor the notebook styles the other.

    nbconvert's page is parsed with its cells; JupyterLab inserts them later and runs their scripts anew.
    """
    context = browser.new_context(color_scheme="light", offline=True)
    page = context.new_page()
    cells = "".join(
        f'<div class="jp-RenderedHTMLCommon">{Audit.open(finished_run)._repr_html_()}</div>' for _ in range(2)
    )
    notebook = (
        "<!doctype html><style>body { color: rgb(1, 2, 3) } h1 { font-size: 40px } "
        ".jp-RenderedHTMLCommon dt { float: left; width: 20% }</style>"
        '<body data-jp-theme-light="false"><h1 id="own">mine</h1><div id="cells">{}</div></body>'
    )
    if way == "parsed":
        page.set_content(notebook.replace("{}", cells))
    else:
        page.set_content(notebook.replace("{}", ""))
        page.evaluate(INSERT, cells)
    first, second = part(page, "report").nth(0), part(page, "report").nth(1)
    second.locator("[data-test=tab-network]").click()
    assert second.locator("[data-test=panel-network]").is_visible()
    assert first.locator("[data-test=panel-findings]").is_visible()
    assert first.evaluate("element => getComputedStyle(element).backgroundColor") == "rgb(20, 23, 27)"
    assert first.locator("dt").first.evaluate("element => getComputedStyle(element).float") == "none"
    own = page.locator("#own").evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).fontSize]")
    assert own == ["rgb(1, 2, 3)", "40px"]
    assert not page.locator("pre", has_text="Audit(").first.is_visible()
    context.close()


def test_without_a_shadow_root_the_text_is_shown(browser, finished_run):
    """GitHub takes templates and scripts out of a notebook."""
    html = Audit.open(finished_run)._repr_html_()
    bare = re.sub(r"<template.*</template>", "", html, flags=re.DOTALL)
    bare = re.sub(r"<(script|style).*?</\1>", "", bare, flags=re.DOTALL)
    page = browser.new_page()
    page.set_content(bare)
    assert page.inner_text("body").startswith("Audit(")
    page.close()


def test_on_paper_everything_is_shown(browser, report):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(report.as_uri())
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown(page) == TABS
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown(page) == ["findings"]
    context.close()
