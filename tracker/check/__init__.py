"""verify and rebuild: the door of this room."""

from tracker.check.findings import Finding, Level, Progress, Rebuilt, Report, Severity
from tracker.check.replay import rebuild
from tracker.check.verify import verify

__all__ = ["Finding", "Level", "Progress", "Rebuilt", "Report", "Severity", "rebuild", "verify"]
