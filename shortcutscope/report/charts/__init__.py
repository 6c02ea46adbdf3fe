"""Figures of a comparison, and of subgroups."""
