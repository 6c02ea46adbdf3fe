"""Whether images are read as the model was trained on them."""
