"""Concepts, concept activation vectors, and what they say per layer: encoded, used, how far spread."""
