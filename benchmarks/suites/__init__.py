"""Suites: which lmms-eval tasks belong together, where their data lie, and what of a document a verdict needs."""
