"""Published protocols, run end to end: on phantoms, or on the papers' data where it is given."""
