"""Collections of runs: found by a query, shown as tables, grouped, compared; of many stores, of the past."""

from tracker.runs.collection import Runs
from tracker.runs.past import PastProject
from tracker.runs.rows import Listed
from tracker.runs.table import Table
from tracker.runs.union import Union

__all__ = ["Listed", "PastProject", "Runs", "Table", "Union"]
