"""Sphinx configuration; `pip install -e ".[docs]"`, then `sphinx-build docs docs/_build`."""

import shortcutscope

project = "shortcutscope"
author = copyright = "The shortcutscope developers"
version = release = shortcutscope.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"

# Benchmarks and notebooks run in the tests; building the pages runs nothing.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
napoleon_google_docstring = False
