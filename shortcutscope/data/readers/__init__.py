"""Readers: from one file to an array with channels first, one file a format."""
