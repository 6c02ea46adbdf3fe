"""The operations that need a rule, by name, and their rules."""

from shortcutscope.attribution.lrp.operations import elementwise, linear, normalization, products
from shortcutscope.attribution.lrp.operations.table import TABLE

__all__ = ["TABLE", "elementwise", "linear", "normalization", "products"]
