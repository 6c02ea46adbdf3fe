"""Known truth for tests, demos and benchmarks: planted artifacts, phantoms, thin networks."""
