"""Unlearning a shortcut: one trainer, a specialist teacher, distillation at intermediate layers, and its rivals."""
