"""Unlearning a shortcut: one trainer, a specialist teacher, distillation, and fair rivals."""
