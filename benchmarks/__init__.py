"""cnet beside its peers, on the same data and on one core: see ``python -m benchmarks --help``."""
