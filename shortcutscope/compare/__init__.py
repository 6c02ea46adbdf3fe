"""Comparison: what a recipe changed in a network, for better and for worse."""

from shortcutscope._rooms import make_callable

make_callable(__name__, "shortcutscope.facade")
