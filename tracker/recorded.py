"""What one root's ledger says, read in one process: look-ups that are current.

The reader's half of a ledger; `ledger` orders the writes above it. Writes nothing.

Spec: spec/log.md section 6; spec/events.md section 3.
"""

from __future__ import annotations

import threading
from pathlib import Path

from tracker._model.event import Rule, RunEvent
from tracker._model.fold import Run, Stamp
from tracker._store.index import Filter, Row
from tracker.lookup import HIT_AGE_S, MISS_AGE_S, Lookup
from tracker.terms import RunRef, Status


class Recorded:
    """The runs and rules of one root. Safe for threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lookup = Lookup(str(root))
        self._lock = threading.RLock()
        self._refreshed = False
        self._last_row: tuple[int, tuple[str, str, str], Row | None] = (-1, ("", "", ""), None)

    def row(self, uid: str, identifier: str, relpath: str) -> Row | None:
        """What is recorded of a run: of the last 0.1 s if it is done, else of the last 0.1 ms."""
        wanted = (uid, identifier, relpath)
        with self._lock:
            if self.lookup.is_stale(HIT_AGE_S):
                self._refresh()
            row = self._remembered(wanted)
            if (row is not None and row.status == Status.DONE) or not self.lookup.is_stale(MISS_AGE_S):
                return row
            self._refresh()
            return self._remembered(wanted)

    def _remembered(self, wanted: tuple[str, str, str]) -> Row | None:
        """The row, looked up once while nothing changes: `session()` and `is_done()` ask for the same."""
        generation, last, row = self._last_row
        if last == wanted and generation == self.lookup.generation:
            return row
        row = self.lookup.row(*wanted)
        self._last_row = (self.lookup.generation, wanted, row)
        return row

    def is_done(self, uid: str, identifier: str, relpath: str) -> bool:
        """True if the run, or a repeat of it, is done. Cost: 4 µs if it is."""
        with self._lock:
            if self.lookup.is_stale(HIT_AGE_S):
                self._refresh()
            if self.lookup.status(uid, identifier, relpath) == Status.DONE:
                return True
        row = self.row(uid, identifier, relpath)
        if row is not None and row.status == Status.DONE:
            return True
        return any(run.status is Status.DONE for run in self.repeats(uid, identifier, relpath))

    def repeats(self, key: str, identifier: str, relpath: str) -> list[Run]:
        """The repeats of a key, in the order of their first events, as of the last look."""
        with self._lock:
            return self.lookup.repeats(key, identifier, relpath)

    def run(self, ref: RunRef) -> Run | None:
        """All that is known of a run at this moment. Cost: 20 µs."""
        with self._lock:
            if self.lookup.is_stale(MISS_AGE_S):
                self._refresh()
            return self.lookup.run(ref)

    def find(self, wanted: Filter | None = None) -> list[Run]:
        """The runs that match, in the order of their first events. Cost: 15 µs a run."""
        with self._lock:
            self._refresh()
            return self.lookup.find(wanted or Filter())

    def events(self, wanted: Filter | None = None) -> list[tuple[Stamp, RunEvent]]:
        """The events of the runs that match, in order: the history. Cost: 3 µs an event."""
        with self._lock:
            self._refresh()
            found = self.lookup.histories(wanted or Filter(removed=None))
            return sorted(
                (entry for _, history, _ in found for entry in history.items()), key=lambda entry: entry[0]
            )

    def rules(self) -> list[tuple[Stamp, Rule]]:
        """The rules of the store, in order. Cost: 10 µs."""
        with self._lock:
            self._refresh()
            return self.lookup.rule_events()

    def refresh(self) -> int:
        """Be current; return a number that moves whenever an answer may have changed."""
        with self._lock:
            self._refresh()
            return self.lookup.generation

    def _refresh(self) -> None:
        self.lookup.refresh()
        self._refreshed = True

    def relpaths(self) -> set[str]:
        """The namespaces that have runs."""
        with self._lock:
            self._refresh()
            return self.lookup.relpaths()

    def others_with_uid(self, uid: str, relpath: str, ref: RunRef) -> list[RunRef]:
        """Recorded runs of other identifiers that share this run's folder, as of the last look."""
        with self._lock:
            return sorted(self.lookup.with_uid(uid, relpath) - {ref})

    def is_file_of(self, refs: list[RunRef], path: str) -> RunRef | None:
        """The first of these runs that has recorded a file at `path`, as of the last look."""
        with self._lock:
            for ref in refs:
                run = self.lookup.run(ref)
                attempts = [] if run is None else run.attempts
                if any(file.path == path for attempt in attempts for file in attempt.files):
                    return ref
        return None
