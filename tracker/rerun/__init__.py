"""rerun: the door of this room."""

from tracker.rerun.outcome import Outcome, Prepared, prepare, print_lines, rerun

__all__ = ["Outcome", "Prepared", "prepare", "print_lines", "rerun"]
