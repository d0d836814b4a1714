"""Metrics: rows of numbers logged while a run runs, and read as curves: the door of this room.

Spec: spec/metrics.md.
"""

from tracker.metrics.reading import RunMetrics, read_run, read_warned
from tracker.metrics.recorder import Recorder, rank_of
from tracker.metrics.recorders import Recorders
from tracker.metrics.series import Series, history_of, series_of
from tracker.metrics.summary import Summary

__all__ = [
    "Recorder",
    "Recorders",
    "RunMetrics",
    "Series",
    "Summary",
    "history_of",
    "rank_of",
    "read_run",
    "read_warned",
    "series_of",
]
