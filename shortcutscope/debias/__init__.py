"""Unlearning a shortcut: one trainer, a specialist teacher, intermediate-layer distillation, and its rivals."""
