"""One run in one process. `handle` is what users hold; it composes `place`, `files` and `attempt`."""

from tracker.session.handle import Session

__all__ = ["Session"]
