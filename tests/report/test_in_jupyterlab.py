"""Results in a real JupyterLab, and in the page that nbconvert makes of a notebook, light and dark."""

from __future__ import annotations

import pytest
from lab_server import jupyterlab, write_notebook

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")

PATIENCE = 90_000  # milliseconds, for a machine with other work
THEMES = {"JupyterLab Light": "rgb(255, 255, 255)", "JupyterLab Dark": "rgb(20, 23, 27)"}
#: The kernel of the notebook that is shown is there, and does nothing.
IDLE = """
  () => {
    const shown = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    const session = shown && shown.sessionContext && shown.sessionContext.session;
    return session && session.kernel && session.kernel.status === "idle";
  }
"""
LOOK = """
  host => {
    const root = host.shadowRoot;
    const label = root.querySelector("dt");
    return {
      plain: host.querySelector("pre").offsetHeight > 0,
      floats: label ? getComputedStyle(label).float : "none",
      surface: getComputedStyle(root.querySelector(".ss-report, .ss-sheet")).backgroundColor,
    };
  }
"""


def cells(run):
    return [f"import shortcutscope as ss\naudit = ss.Audit.open({str(run)!r})\naudit", "audit['tag']"]


@pytest.mark.slow
def test_results_in_jupyterlab(browser, finished_run, tmp_path):
    write_notebook(tmp_path / "results.ipynb", cells(finished_run))
    with jupyterlab(tmp_path) as address:
        page = browser.new_page(viewport={"width": 1300, "height": 3000})
        page.goto(address + "lab/tree/results.ipynb", timeout=PATIENCE)
        page.wait_for_function(IDLE, timeout=PATIENCE)
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')")
        page.locator(".ss-host").nth(0).wait_for(timeout=PATIENCE)
        for theme, surface in THEMES.items():
            page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
            page.wait_for_timeout(2000)
            looks = page.locator(".ss-host").evaluate_all(f"hosts => hosts.map({LOOK})")
            assert looks == [{"plain": False, "floats": "none", "surface": surface}] * len(looks)
            assert looks
        page.locator("[data-test=tab-network]").first.click()
        assert page.locator("[data-test=panel-network]").first.is_visible()
        page.close()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_results_in_nbconverts_page(browser, finished_run, tmp_path, theme):
    import nbformat
    from nbclient import NotebookClient
    from nbconvert import HTMLExporter

    write_notebook(tmp_path / "results.ipynb", cells(finished_run))
    notebook = nbformat.read(tmp_path / "results.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300).execute()
    body, _ = HTMLExporter(theme=theme).from_notebook_node(notebook)
    (tmp_path / "results.html").write_text(body)
    for scripts in (True, False):  # a viewer may run none
        context = browser.new_context(java_script_enabled=scripts, offline=True)
        page = context.new_page()
        page.goto((tmp_path / "results.html").as_uri())
        assert page.locator(".ss-host").count() == 2
        report = page.locator("[data-test=report]")
        assert report.is_visible()
        if scripts:
            looks = page.locator(".ss-host").evaluate_all(f"hosts => hosts.map({LOOK})")
            surface = THEMES[f"JupyterLab {theme.capitalize()}"]
            assert looks == [{"plain": False, "floats": "none", "surface": surface}] * 2
        context.close()
