"""Samples with roles: tables, readers, splits, planted artifacts and phantoms."""
