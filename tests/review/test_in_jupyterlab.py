"""The review grid in a real JupyterLab: every action, boxes drawn included, from the browser to the marks."""

from __future__ import annotations

import json

import pytest
from lab_server import jupyterlab, write_notebook

pytest.importorskip("anywidget", reason="the extra jupyter is not installed")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")

CELL = """
import numpy as np, pandas as pd, shortcutscope as ss
from shortcutscope.planting.thin import thin_resnet18
from shortcutscope.retrieval.retrieval import Retrieval
from shortcutscope.scan.scanner import scan

rng = np.random.default_rng(0)
frame = pd.DataFrame({"sample_id": [f"s{k}" for k in range(48)], "label": np.arange(48) % 2})
images = rng.random((48, 1, 24, 48)).astype(np.float32)
images[::3, :, :6, :6] = 1
data = ss.ImageTable.from_arrays(images, frame, value_range=(0, 1))
quiet = ss.Running(progress=False)
scanned = scan(thin_resnet18(width=4), data, "run", scanning=ss.Scanning(relevance=False), running=quiet)
retrieval = Retrieval.from_marks(
    scanned, [f"s{k}" for k in range(0, 24, 3)], images=data, path="marks.csv", view="layers", running=quiet
)
ss.review(retrieval.hits(40), who="reader")
"""
PATIENCE = 90_000  # milliseconds, for a machine with other work


@pytest.fixture
def lab(tmp_path):
    """Address of a JupyterLab that serves a notebook with the grid."""
    write_notebook(tmp_path / "grid.ipynb", [CELL.strip()])
    with jupyterlab(tmp_path) as address:
        yield address + "lab/tree/grid.ipynb"


@pytest.mark.slow
def test_every_action_reaches_the_marks(lab, browser, tmp_path):
    page = browser.new_page(viewport={"width": 1300, "height": 1200})
    page.goto(lab, timeout=PATIENCE)
    cells, prompt = page.locator(".ss-cell"), page.locator(".jp-CodeCell .jp-InputPrompt").first
    prompt.wait_for(timeout=PATIENCE)
    for _ in range(30):  # until the notebook has its kernel, running a cell does nothing
        if prompt.inner_text().strip() in ("", "[ ]:"):
            page.locator(".jp-CodeCell .cm-content").first.click(timeout=PATIENCE)
            page.keyboard.press("Control+Enter")
        page.wait_for_timeout(3000)
        if cells.count():
            break
    ids = [cells.nth(k).get_attribute("data-id") for k in range(4)]

    cells.nth(0).click()
    page.keyboard.press("u")
    for key in ("a", "r"):
        page.keyboard.press(key)
    page.keyboard.press("z")
    picture = page.locator("[data-test=desk] .ss-picture")
    picture.scroll_into_view_if_needed()
    at = picture.bounding_box()
    page.mouse.move(at["x"] + at["width"] / 4, at["y"] + at["height"] / 4)
    page.mouse.down()
    page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    page.mouse.up()
    for key in ("ArrowRight", "b", "Enter", "Escape"):
        page.keyboard.press(key)
    assert "1 free of it, 2 boxes." in page.locator("[data-test=status]").inner_text()
    page.locator("[data-test=submit]").click()
    taken = "document.querySelector('[data-test=status]').textContent.includes('taken')"
    page.wait_for_function(taken, timeout=PATIENCE)
    assert page.locator(".jp-CodeCell").count() == 1, "no key reached the notebook"
    page.close()

    rows = [line.split(",") for line in (tmp_path / "marks.csv").read_text().splitlines()]
    said = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:] if row[0] in ids}
    assert [float(said[name]["value"]) for name in ids] == [1, 0, 1, 1], json.dumps(said)
    assert {said[name]["who"] for name in ids} == {"reader"}
    edges = [[float(said[name][edge]) for edge in ("x0", "y0", "x1", "y1")] for name in ids[2:]]
    assert edges[0] == pytest.approx([12, 6, 24, 12], abs=0.3)
    assert edges[1] == pytest.approx([21.6, 10.8, 26.4, 13.2], abs=0.1)
