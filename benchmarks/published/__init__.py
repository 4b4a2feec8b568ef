"""Figures that papers printed, with their sources, and what of them recomputes. One TOML file a paper, in `papers/`."""

from benchmarks.published.check import Check
from benchmarks.published.denominators import Fit, fits
from benchmarks.published.library import PAPERS, for_task, frame, load, papers, records, value
from benchmarks.published.model import RECORD, TASKS, Column, Paper, Published, Row, Table
from benchmarks.published.recompute import Coincidence, Gain, checks, coincidences, gains

__all__ = [
    "PAPERS",
    "RECORD",
    "TASKS",
    "Check",
    "Coincidence",
    "Column",
    "Fit",
    "Gain",
    "Paper",
    "Published",
    "Row",
    "Table",
    "checks",
    "coincidences",
    "fits",
    "for_task",
    "frame",
    "gains",
    "load",
    "papers",
    "records",
    "value",
]
