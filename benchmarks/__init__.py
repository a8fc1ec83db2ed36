"""cnet beside its peers: the same data, batches and optimizer, on one core. See ``--help``."""
