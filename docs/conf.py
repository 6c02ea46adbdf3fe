"""Sphinx configuration; `pip install -e ".[docs]"`, then `sphinx-build -W docs docs/_build`."""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from command_pages import command_line_page
from sphinx.application import Sphinx

import shortcutscope

project = "shortcutscope"
author = copyright = "The shortcutscope developers"
version = release = shortcutscope.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_extra_path = ["schema"]

# Benchmarks and notebooks run in the tests; building the pages runs nothing.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

suppress_warnings = ["mystnb.unknown_mime_type"]


def make_pages(app: Sphinx) -> None:
    """Write the pages that are made of other things: the commands' help, and the notebooks."""
    made = Path(app.srcdir) / "_made"
    made.mkdir(exist_ok=True)
    (made / "command_line.md").write_text(command_line_page(), encoding="utf-8")
    for notebook in (Path(app.srcdir).parent / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, made)


def setup(app: Sphinx) -> None:
    """Connect what is made to the build."""
    app.connect("builder-inited", make_pages)
