"""Unlearning a shortcut: one trainer, a specialist teacher, distillation, and fair rivals."""

from shortcutscope._rooms import make_callable

make_callable(__name__, "shortcutscope.debias.unlearn")
