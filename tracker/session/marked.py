"""What people say of a run through a handle: tags, notes, a name, the run it belongs to.

Recorded as events, at any time, of runs in any state; the first records a run that is not recorded yet.

Spec: spec/events.md sections 2 and 4.
"""

from __future__ import annotations

from typing import Self

from tracker import marks
from tracker._model.event import Event
from tracker.marks import HasRef
from tracker.session import attempt
from tracker.session.known import KnownRun
from tracker.terms import RunRef


class MarkedRun(KnownRun):
    """One run, to read and to mark."""

    __slots__ = ()

    def tag(self, *tags: str) -> Self:
        """Put tags on the run and return self: 1 to 64 characters each, without commas. Cost: 10 µs.

        Survives kill -9 when it returns, and a power cut once the journal is sealed, as all that follows.

        Raises: NameRefusedError, before anything is recorded; StorageError.
        """
        return self._mark(marks.tagged(self.ref, tags))

    def untag(self, *tags: str) -> Self:
        """Take tags off and return self. Raises: NameRefusedError; StorageError."""
        return self._mark(marks.tagged(self.ref, removed=tags))

    def note(self, text: str) -> Self:
        """Record a remark, up to 64 KiB, for good; return self. Raises: NameRefusedError; StorageError."""
        return self._mark(marks.noted(self.ref, text))

    @property
    def name(self) -> str | None:
        """What people call the run; set it to record a name, which need not be its alone, or None.

        Raises, when set: NameRefusedError; StorageError.
        """
        run = self.run
        return None if run is None else run.name

    @name.setter
    def name(self, name: str | None) -> None:
        self._mark(marks.named(self.ref, name))

    @property
    def parent(self) -> RunRef | None:
        """The ref of the run that this one belongs to; set it to a session, a recorded run's ref, or None.

        Raises, when set: NotFoundError for what is not recorded here; StateError for one below this run;
        StorageError.
        """
        run = self.run
        return None if run is None else run.parent

    @parent.setter
    def parent(self, parent: HasRef | str | None) -> None:
        self._mark(marks.parented(self._ledger, self.ref, parent))

    def _mark(self, event: Event) -> Self:
        attempt.record(self._ledger, self._place, event)
        return self
