"""Output of a process kept in a file while the terminal goes on: the door of this room."""

from tracker.tee.capture import LIMIT_BYTES, OUTPUT, Report, Tee, start
from tracker.tee.reading import Follower, Kept, read_kept, tail_of

__all__ = ["LIMIT_BYTES", "OUTPUT", "Follower", "Kept", "Report", "Tee", "read_kept", "start", "tail_of"]
