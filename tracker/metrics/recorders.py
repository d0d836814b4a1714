"""The recorders of a process in one store, by run.

Spec: spec/metrics.md section 4.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tracker._disk import durable
from tracker._disk.host import Host
from tracker._store.measured import SeriesJournal, Standing, list_of_run, open_metrics
from tracker.errors import StorageError
from tracker.metrics.reading import read_run
from tracker.metrics.recorder import Recorder, rank_of
from tracker.metrics.summary import Summary
from tracker.terms import AttemptId, RunRef, WriterId


class _Clock:
    """The hybrid clock of one series. Spec: spec/metrics.md section 2."""

    def __init__(self, last: int) -> None:
        self.last = last

    def __call__(self) -> int:
        self.last = max(self.last + 1, time.time_ns() // 1_000_000 << 16)
        return self.last


class Recorders:
    """The metrics of a process in one store. Safe for threads.

    `store_fd` is a descriptor of `.tracker` that outlives it, `writer` the ledger's. Nothing is made before
    the first recorder.
    """

    def __init__(self, store_fd: int, writer: WriterId, owner: Host, version: str) -> None:
        self._store_fd = store_fd
        self._writer = writer
        self._owner = owner
        self._version = version
        self._lock = threading.RLock()
        self._metrics_fd = -1
        self._open: dict[RunRef, tuple[Recorder, SeriesJournal]] = {}
        self._ended: dict[RunRef, Standing] = {}
        self._owed: dict[RunRef, tuple[dict[str, Summary], set[str]] | None] = {}
        """Of runs whose rows are sealed, and whose summary nobody has yet: what this process knows of it."""

    def recorder(
        self, run: RunRef, attempt: AttemptId | None, *, began: int = 0, rank: int | None = None
    ) -> Recorder:
        """The recorder of an attempt of a run: the same until it is finished.

        `began` is the clock of the frame that began the attempt; `rank` is the environment's unless given.
        One that is open for another attempt is finished first.

        Cost: 0.3 µs for one that is open. Raises: StorageError.
        """
        with self._lock:
            known = self._open.get(run)
            if known is not None and known[0].attempt == attempt:
                return known[0]
            if known is not None:
                self._end(run)
            standing = self._ended.get(run, Standing())
            clock = _Clock(max(standing.clock, began))
            journal = SeriesJournal(
                self._metrics(), run, self._writer, self._owner, self._version, clock, standing
            )
            recorder = Recorder(journal, attempt, rank_of() if rank is None else rank)
            self._open[run] = recorder, journal
            return recorder

    def _metrics(self) -> int:
        if self._metrics_fd < 0:
            metrics_fd = open_metrics(self._store_fd, make=True)
            assert metrics_fd is not None, "it was just made"
            self._metrics_fd = metrics_fd
        return self._metrics_fd

    @property
    def is_open(self) -> bool:
        """True while some run is being logged of."""
        return bool(self._open)

    def flush_due(self, now_ms: int) -> None:
        """Write what has waited for 5 s. A run that the disk refuses does not hold up the others.

        Cost: 0.1 µs for each run that is open. Raises: StorageError, the first; its rows stay.
        """
        self._each(lambda recorder: recorder.flush_due(now_ms))

    def flush(self) -> None:
        """Write what was gathered of all runs. Raises: StorageError, the first; its rows stay."""
        self._each(Recorder.flush)

    def seal(self) -> None:
        """Write what was gathered of all runs, sealed. Raises: StorageError, the first; its rows stay."""
        self._each(Recorder.seal)

    def _each(self, act: Callable[[Recorder], object]) -> None:
        failed: StorageError | None = None
        for recorder, _ in tuple(self._open.values()):
            try:
                act(recorder)
            except StorageError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def finish(self, run: RunRef) -> dict[str, Summary]:
        """End an attempt: flush, seal, sync; give the summary of the run's metrics, for its `summary` event.

        Where others logged of the run too, or this process for an earlier attempt, the summary is that of
        the curves that a reader makes of all. Empty for a run that this process did not log of.

        When this returns all rows are beyond a power cut, in every durability mode: sealing syncs.
        Raises: StorageError; the rows stay, and the next call tries again.
        Cost: 0.2 µs for a run that was not logged of; else the syncs of a seal.
        """
        with self._lock:
            if run in self._open:
                is_first = run not in self._ended
                ended = self._end(run)
                self._owed[run] = ended if is_first else None
            if run not in self._owed:
                return {}
            alone = self._owed[run]  # it stays until others' rows were read too
            if alone is not None and {f.path for f in list_of_run(self._metrics(), run)} == alone[1]:
                summary = alone[0]
            else:
                summary = read_run(self._store_fd, run).summaries()
            del self._owed[run]
            return summary

    def _end(self, run: RunRef) -> tuple[dict[str, Summary], set[str]]:
        """Finish a recorder; give its summary and the paths it sealed. Raises: StorageError."""
        recorder, journal = self._open[run]
        own = recorder.finish()
        del self._open[run]
        journal.close()
        self._ended[run] = journal.standing()
        return own, set(journal.sealed)

    def close(self) -> None:
        """Seal all and give back the descriptors. Raises: StorageError; those journals stay as `.open`."""
        with self._lock:
            try:
                self._each(Recorder.finish)  # no other thread's row comes behind the seal, and is forgotten
            finally:
                self.forget_after_fork()

    def forget_after_fork(self) -> None:
        """Drop what the parent gathered, and its descriptors, in a forked child, which is another writer."""
        self._lock = threading.RLock()
        for recorder, journal in self._open.values():
            recorder.forget()
            journal.close()
        self._open, self._ended, self._owed = {}, {}, {}
        if self._metrics_fd >= 0:
            with suppress(OSError):
                durable.close_read(self._metrics_fd)
            self._metrics_fd = -1
