"""Traces: a teacher's record of each sample (answer, gaze, V_sem, filter verdicts), extracted, stored and read."""

from lavit.traces.extract import extract
from lavit.traces.filters import FILTERS
from lavit.traces.funnel import funnel, funnel_table
from lavit.traces.read import Trace, Traces
from lavit.traces.settings import Extraction, TraceSettings
from lavit.traces.target import Target, resample, target

__all__ = [
    "FILTERS",
    "Extraction",
    "Target",
    "Trace",
    "TraceSettings",
    "Traces",
    "extract",
    "funnel",
    "funnel_table",
    "resample",
    "target",
]
