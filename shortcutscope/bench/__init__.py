"""Planted-shortcut benchmarks that a user can run, too."""
