"""Samples run through the network again with a concept changed: use, extent, and others held fixed."""
