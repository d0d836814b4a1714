"""verify, repair and rebuild: the door of this room."""

from tracker.check.findings import Finding, Level, Mend, Progress, Rebuilt, Repaired, Report, Severity
from tracker.check.repair import repair
from tracker.check.replay import rebuild
from tracker.check.verify import verify

__all__ = [
    "Finding",
    "Level",
    "Mend",
    "Progress",
    "Rebuilt",
    "Repaired",
    "Report",
    "Severity",
    "rebuild",
    "repair",
    "verify",
]
