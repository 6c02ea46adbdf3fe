"""What a model returns as scores: parts, outputs, links, ties, and what is explained of them."""
