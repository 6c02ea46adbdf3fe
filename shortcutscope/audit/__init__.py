"""The audit: its run directory, its stages in the order in which they run, and its result."""

from shortcutscope._rooms import make_callable

make_callable(__name__, "shortcutscope.facade")
