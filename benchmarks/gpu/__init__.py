"""Measurements of the Triton backend on one GPU; see ``python -m benchmarks.gpu --help``."""
