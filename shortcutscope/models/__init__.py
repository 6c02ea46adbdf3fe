"""Models as given: their layers, borrowing them unchanged, loading them, choosing a logit."""
