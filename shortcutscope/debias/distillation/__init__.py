"""Distillation from a specialist teacher: what is compared, where, and the loss."""
