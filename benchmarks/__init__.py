"""Comparison of cnet with other libraries, on the same data and on one core.

See ``python -m benchmarks --help``.
"""
