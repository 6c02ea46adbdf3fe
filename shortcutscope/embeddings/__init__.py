"""Embeddings of encoders, audited without the images and the network that they come from."""
