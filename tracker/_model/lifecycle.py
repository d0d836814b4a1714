"""The table (status, event) -> status, and nothing else.

An attempt is RUNNING from its start. The event that moved its status last is its end.

Spec: spec/events.md section 3, rule 3.
"""

from __future__ import annotations

from tracker._model.event import Done, Failed, Interrupted, Lost, RunEvent
from tracker.terms import Status

_ENDED = (Status.DONE, Status.ERROR, Status.INTERRUPTED)

MOVES: dict[type[RunEvent], Status] = {
    Done: Status.DONE,
    Failed: Status.ERROR,
    Interrupted: Status.INTERRUPTED,
    Lost: Status.LOST,
}
"""The status an event leads to; kinds that are not here leave the status alone."""


def next_status(status: Status, kind: type[RunEvent]) -> Status:
    """The status of an attempt after an event of `kind`.

    An attempt that ended is never lost: whoever declares it lost had not seen its end.
    """
    if kind is Lost and status in _ENDED:
        return status
    return MOVES.get(kind, status)
