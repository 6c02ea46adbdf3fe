"""Masks of what a person boxed on a few images."""
