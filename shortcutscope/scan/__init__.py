"""One pass over the data: pooled activations and relevances of every layer, in a store on disk."""
