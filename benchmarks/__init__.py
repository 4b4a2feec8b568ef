"""Benchmark suites over lmms-eval, published numbers and speed measurements."""
