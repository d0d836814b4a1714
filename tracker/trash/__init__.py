"""Removal, recovery, and what is given up for good: the door of this room."""

from tracker.trash.moves import Moved, remove, restore
from tracker.trash.purge import GRACE_S, Collected, Purge, gc, plan_gc

__all__ = ["GRACE_S", "Collected", "Moved", "Purge", "gc", "plan_gc", "remove", "restore"]
