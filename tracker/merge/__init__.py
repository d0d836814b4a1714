"""merge: the door of this room."""

from tracker.merge.report import Kind, Line, MergeReport
from tracker.merge.union import merge

__all__ = ["Kind", "Line", "MergeReport", "merge"]
