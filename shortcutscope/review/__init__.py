"""Review: grids in which a person accepts and rejects what was retrieved and drawn."""

from shortcutscope._rooms import make_callable

make_callable(__name__, "shortcutscope.facade")
