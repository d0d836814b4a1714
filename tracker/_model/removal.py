"""What the history of a run says of its removal: when, whether it came back and how, what was given up.

Spec: spec/events.md section 6.
"""

from __future__ import annotations

from msgspec import Struct

from tracker._model.event import Purged, Removed, Restored, Started
from tracker._model.fold import History, Stamp


class Removal(Struct, frozen=True):
    """The last removal of a run, and what came after it. A stamp is None where there is no such event."""

    removed: Stamp | None = None
    restored: Stamp | None = None
    purged: Stamp | None = None
    is_anew: bool = False
    """It came back by a start: what was removed stays so."""
    given_up: Stamp | None = None
    """What attempts sealed before it is for no one to look for: purged, or left behind by a start anew."""

    @property
    def is_removed(self) -> bool:
        """True for a run that counts as not run."""
        return self.removed is not None and self.restored is None

    @property
    def removed_ms(self) -> int:
        """When it was removed last; Unix milliseconds, 0 if it never was."""
        return 0 if self.removed is None else self.removed[0] >> 16


def removal_of(history: History) -> Removal:
    """What is known of a run's removal. Cost: 1 µs for a run that never was."""
    if not any(isinstance(event, Removed) for event in history.values()):
        return Removal()
    removal = Removal()
    starts = {stamp[:3] for stamp, event in history.items() if isinstance(event, Started)}
    for stamp in sorted(history):
        removal = _after(removal, stamp, history[stamp], is_start=stamp[:3] in starts)
    return removal


def _after(before: Removal, stamp: Stamp, event: object, *, is_start: bool) -> Removal:
    if isinstance(event, Removed) and not before.is_removed:
        return Removal(removed=stamp, given_up=before.given_up)
    if isinstance(event, Restored) and before.is_removed:
        given_up = before.removed if is_start else before.given_up
        return Removal(before.removed, stamp, before.purged, is_start, given_up)
    if isinstance(event, Purged) and (before.is_removed or before.is_anew):
        return Removal(before.removed, before.restored, stamp, before.is_anew, before.removed)
    return before
