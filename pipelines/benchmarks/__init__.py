"""Benchmarks: each module has a `run` that returns a table and writes nothing."""
