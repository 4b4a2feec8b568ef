"""Suites: which lmms-eval tasks belong together, where their data lie, and what of a document a verdict needs."""

from benchmarks.suites.catalog import PAPER, SUITES, choose
from benchmarks.suites.tasks import Suite, open_suites

__all__ = ["PAPER", "SUITES", "Suite", "choose", "open_suites"]
