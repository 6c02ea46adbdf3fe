"""Manifests: from what people have, files and folders, to the columns of a table."""
