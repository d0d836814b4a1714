"""Collections of runs: found by a query, shown as tables, grouped, compared."""

from tracker.runs.collection import Runs

__all__ = ["Runs"]
