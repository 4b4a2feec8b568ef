"""Figures that papers printed, with their sources, and what of them recomputes. One TOML file a paper, in `papers/`."""

from benchmarks.published.figure import Published
from benchmarks.published.library import PAPERS, for_task, frame, load, papers, records, value
from benchmarks.published.model import RECORD, TASKS, Column, Paper, Row, Table
from benchmarks.published.recompute import checks, coincidences, fits, gains

__all__ = ["PAPERS", "RECORD", "TASKS", "Column", "Paper", "Published", "Row", "Table", "checks", "coincidences"]
__all__ += ["fits", "for_task", "frame", "gains", "load", "papers", "records", "value"]
