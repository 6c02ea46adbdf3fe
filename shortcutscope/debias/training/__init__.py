"""One trainer for every recipe."""

from shortcutscope.debias.training.fit import Fitted, fit
from shortcutscope.debias.training.settings import Augmentation, Precision, Select, Training

__all__ = ["Augmentation", "Fitted", "Precision", "Select", "Training", "fit"]
