"""Measured speed and memory: ``python -m benchmarks NAME [options] --json``."""
