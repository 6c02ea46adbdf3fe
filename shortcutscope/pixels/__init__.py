"""Interventions on the image: a concept is taken out of pixels, or put into them, and the output read."""
