"""What the file system under a folder guarantees, tried out. Spec: spec/layout.md section 8."""

from tracker.doctor.examine import examine
from tracker.doctor.report import Diagnosis, Need, Result, Verdict

__all__ = ["Diagnosis", "Need", "Result", "Verdict", "examine"]
