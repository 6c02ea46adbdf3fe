"""Interventions on the image: a concept is taken out of the pixels, or put into them, and the output is read."""
