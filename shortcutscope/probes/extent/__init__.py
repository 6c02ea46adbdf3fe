"""Over how much of the image a concept spreads."""
