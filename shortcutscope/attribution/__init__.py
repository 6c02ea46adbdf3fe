"""Which part of the input, or of a layer, a score comes from: gradients, LRP, and whether to believe them."""
