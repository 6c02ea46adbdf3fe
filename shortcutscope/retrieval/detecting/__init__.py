"""Where an image has most of what was boxed on a few others."""
