"""Weights in files, and their names in the model."""
