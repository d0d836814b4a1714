"""One root's ledger in one process: the only place that orders writes.

Files, then the event (the commit point), then manifest; look-ups that are current. Knows events and runs;
where users' files lie and what a session means is told above.

Spec: spec/log.md sections 5, 6 and 8.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from tracker import interrupts
from tracker._disk import durable, host
from tracker._disk.host import Clock
from tracker._model.event import (
    Attachment,
    Created,
    End,
    Event,
    File,
    Input,
    Interrupted,
    Lost,
    Started,
)
from tracker._model.fold import Run, attempt_id
from tracker._model.manifest import Ended, encode_manifest, manifest_of
from tracker._store import objects, segments
from tracker._store.journal import Appended, Journal
from tracker._store.manifests import put_manifest
from tracker._store.root import inode_of, make_store
from tracker.claiming import Claim, Claims, Rival
from tracker.errors import ClockWarning, NameRefusedError, NotFoundError, StorageError, TrackerWarning
from tracker.recorded import Recorded
from tracker.terms import AttemptId, Digest, Durability, RunRef, Status, WriterId
from tracker.version import VERSION
from tracker.watch import Watch

if TYPE_CHECKING:
    from tracker.metrics import Recorder, Recorders, RunMetrics

SEAL_AGAIN_S = 10.0
"""done() seals the journal unless this process sealed at one within so many seconds."""

CLOCK_AHEAD_MAX_MS = 10 * 60 * 1000
CLOCK_WARN_MS = 60 * 1000


class OpenRun(Struct, weakref=True):
    """What this process holds of a run: shared by all its sessions of the run."""

    attempt: AttemptId | None = None
    claim: Claim | None = None
    started: Started | None = None
    created: Created | None = None
    handed: dict[str, str] = {}
    """Paths given out and not attached, below the root, with the names they were asked for."""
    attached: dict[str, Attachment] = {}
    facts: dict[str, Any] = {}
    """What was recorded of the attempt: its facts, summary and inputs, as its manifest is to have them."""
    summary: dict[str, Any] = {}
    inputs: dict[str, Input] = {}
    untold: dict[str, Any] = {}
    """The summary of metrics that are sealed, not recorded yet."""
    sampler: Any = None
    """The thread that logs what the machine does, while the run runs."""
    tee: Any = None
    """The capture of what the process prints, while it lasts."""
    pending: Any = None
    """Facts on their way; who records them is told above."""
    is_running: bool = False
    was_started: bool = False
    has_folder: bool = False


class Ledger(Recorded):
    """The history of one root: append events, look runs up. Safe for threads and across fork.

    Get it from `open_ledger`: there is one a root and process. Nothing is made before the first event.
    """

    def __init__(self, root: Path, *, clock: Clock = host.now_ms) -> None:
        super().__init__(root)
        self._clock = clock
        self._last = 0
        self._journal: Journal | None = None
        self._sealed_at_s = -1e9
        self._watch: Watch | None = None
        self._claims = Claims()
        self._root_fd = -1
        self._root_inode: tuple[int, int] | None = None
        self._open_runs: weakref.WeakValueDictionary[RunRef, OpenRun] = weakref.WeakValueDictionary()
        self._running: dict[RunRef, OpenRun] = {}
        self._warned = False
        self._recorders: Recorders | None = None
        self._kept: set[bytes] = set()
        self.facts_of_process: Any = None
        """The facts that all runs of this process share here, remembered for whoever records them."""

    def __repr__(self) -> str:
        return f"Ledger({str(self.root)!r})"

    def opened(self, ref: RunRef, mine: OpenRun | None = None) -> OpenRun:
        """What this process holds of a run; `mine` is what a session held of it before."""
        with self._lock:
            held = self._open_runs.get(ref)
            if held is None:
                held = self._open_runs[ref] = mine or OpenRun()
            return held

    def set_running(self, ref: RunRef, held: OpenRun, *, is_running: bool) -> None:
        """Keep a run in mind while this process executes it, though its session be dropped."""
        held.is_running = is_running
        held.was_started = False
        if is_running:
            self._running[ref] = held
        else:
            self._running.pop(ref, None)
            self.release_claim(held)

    # Claims

    def take_claim(self, ref: RunRef, held: OpenRun, *, unless_done: bool) -> Rival | Status | None:
        """Take the claim on a run into `held`. None if taken, else whose it is, or DONE for a run that is.

        What is recorded is read again once the claim is there, so a run that was finished meanwhile is seen.

        Cost: 50 µs. Raises: StorageError. Spec: spec/claims.md section 6.
        """
        with self._lock:
            self._ensure_journal()
            while held.claim is None:
                run = self.run(ref)
                if unless_done and _is_done(run):
                    return Status.DONE
                taken = self._claims.take(ref, *_numbers(run))
                if isinstance(taken, Rival):
                    return taken
                try:
                    self.lookup.refresh(certain=True)
                    is_newest = _numbers(self.lookup.run(ref))[0] < taken.number
                except BaseException:
                    self._claims.give_up(taken)
                    raise
                if is_newest:
                    held.claim = taken
                else:  # somebody began and ended an attempt since we read
                    self._claims.release(taken)
            if unless_done and _is_done(self.lookup.run(ref)):
                self.release_claim(held)
                return Status.DONE
            return None

    def settle_claim(self, held: OpenRun) -> None:
        """Remove the claims that this one took over, now that its attempt stands in the ledger."""
        if held.claim is not None and held.claim.below:
            with self._lock, contextlib.suppress(StorageError):  # they are stale, whoever removes them
                self._claims.drop_below(held.claim)

    def release_claim(self, held: OpenRun) -> None:
        """Give a claim back. A failure is a warning: it is spent, or stale when this process ends."""
        claim, held.claim = held.claim, None
        if claim is None:
            return
        with self._lock:
            try:
                if self.lookup.is_network and self._journal is not None:
                    self._journal.sync()  # the next worker is to see how the attempt ended
                self._claims.release(claim)
            except StorageError as error:
                warnings.warn(f"claim not given back: {error}", TrackerWarning, stacklevel=5)

    def release_unused(self, held: OpenRun) -> None:
        """Give back a claim under which nothing was begun."""
        if not held.is_running:
            self.release_claim(held)

    def is_claim_lost(self, held: OpenRun) -> bool:
        """True once another worker has taken over what `held` claims. Cost: 12 µs."""
        with self._lock:
            return held.claim is not None and self._claims.is_lost(held.claim)

    def renew_claims(self) -> None:
        """Give a sign of life for all claims. Raises: StorageError."""
        with self._lock:
            self._claims.renew()

    def record_signal(self) -> None:
        """Record the runs of this process as interrupted, since a signal says that it will be killed.

        They may go on: a later end counts. Raises: StorageError. Spec: spec/claims.md section 6.
        """
        name, me, now = interrupts.signal_name(), host.this_process(), host.now_ms()
        restarts = 0 if me.batch is None else me.batch.restarts
        with self._lock:
            events = [
                Interrupted(ref, held.attempt, now, _unsealed(held), name, restarts)
                for ref, held in self._running.items()
                if held.attempt is not None
            ]
            if events:
                appended = self.append(lambda _: [*events])
                for event in events:
                    self._put_manifest_of(event, appended)
            if self._recorders is not None:
                self._recorders.flush()
            if self._journal is not None:
                self._journal.sync()

    def is_running(self, ref: RunRef) -> bool:
        """True while this process executes a run."""
        return ref in self._running

    def refuse_spellings(self, relpath: str, identifier: str) -> None:
        """Refuse a namespace or identifier of which another spelling is recorded. Raises: NameRefusedError.

        Spec: spec/layout.md section 5.
        """
        for kind, text in (("relpath", relpath), ("identifier", identifier)):
            others = self.lookup.spellings(kind, text) - {text}
            if others:
                other = min(others)
                why = f"is one name with {other!r}, which is recorded, on some file systems"
                raise NameRefusedError(
                    "namespace" if kind == "relpath" else kind, text, why, f"write {other!r}"
                )

    # Writing

    @property
    def writer(self) -> WriterId | None:
        """This process's writer id, or None before its first event."""
        return None if self._journal is None else self._journal.writer

    def append(self, events_of: Callable[[AttemptId], list[Event]]) -> Appended:
        """Append one frame; `events_of` is given the id an attempt begun in it would have.

        It survives kill -9 from here on. Makes the store if there is none.

        Raises: StorageError when the disk refuses; nothing of it is recorded then, unless its bytes may be
        read by others already (spec/log.md section 5).
        Cost: 15 µs for two events.
        """
        with self._lock:
            journal = self._ensure_journal()
            sealed = len(journal.sealed)
            appended = journal.append(lambda seq: events_of(attempt_id(journal.writer, seq)))
            self._note_seals(journal, sealed, appended)
            return appended

    def _note_seals(self, journal: Journal, before: int, appended: Appended) -> None:
        """Tell the look-ups what was appended, and under which name it lies if that is sealed already.

        A seal for want of room came before the frame, a seal that rescued it after.
        """
        names = journal.sealed[before:]
        rescued = bool(names) and journal.is_empty
        for name in names[:-1] if rescued else names:
            self.lookup.note_sealed(name)
        self.lookup.note(appended.events, appended.clock, journal.writer, appended.seq)
        if rescued:
            self.lookup.note_sealed(names[-1])

    def commit(self, durability: Durability) -> None:
        """Put what was appended beyond a power cut, as far as `durability` says. The commit point of done().

        When this returns the events are on disk (FULL, LEDGER) or in the file (OFF). What a crash finds
        before that is a journal with or without them; after it, with them, or a sealed segment. Seals the
        journal unless this process sealed at a commit within the last 10 s, so that a long run lies in a
        write-once file when its done() returns, and a fast sweep does not make a file a run.

        Raises: StorageError; the events stay, and the next commit tries again.
        """
        with self._lock:
            journal = self._journal
            assert journal is not None, "there is nothing to commit before the first event"
            now = time.monotonic()
            if now - self._sealed_at_s >= SEAL_AGAIN_S or not journal.is_in_place():
                self._seal(journal)
                self._sealed_at_s = now
            elif durability is not Durability.OFF:
                sealed = len(journal.sealed)
                try:
                    journal.sync()
                finally:
                    for name in journal.sealed[sealed:]:
                        self.lookup.note_sealed(name)

    def seal(self) -> None:
        """Publish what lies in the journal as a sealed segment. Raises: StorageError."""
        with self._lock:
            if self._journal is not None:
                self._seal(self._journal)

    def _seal(self, journal: Journal) -> None:
        sealed = len(journal.sealed)
        try:
            journal.seal()
        finally:
            for name in journal.sealed[sealed:]:
                self.lookup.note_sealed(name)

    def put_object(self, data: bytes) -> Digest:
        """Keep bytes under their digest, synced. Raises: StorageError."""
        with self._lock:
            self._ensure_store()
            return objects.put_object(self.lookup.store_fd, data)

    def keep_objects(self, found: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep bytes under their digests, each once a process. Raises: StorageError."""
        for name, data in found:
            if name not in self._kept:
                self.put_object(data)
                self._kept.add(name)

    # Metrics

    def recorder(self, ref: RunRef, attempt: AttemptId | None) -> Recorder:
        """What rows of metrics of an attempt are logged to. Raises: StorageError. Spec: spec/metrics.md."""
        from tracker.metrics import Recorders

        with self._lock:
            if self._recorders is None:
                journal = self._ensure_journal()
                me = host.this_process()
                self._recorders = Recorders(self.lookup.store_fd, journal.writer, me, VERSION)
            assert self._watch is not None, "there is a journal"
            self._watch.tell("rows")
            return self._recorders.recorder(ref, attempt, began=self._last)

    def read_metrics(self, ref: RunRef) -> RunMetrics:
        """All that is logged of a run, by any process; of this one up to now. Raises: StorageError."""
        from tracker.metrics import RunMetrics, read_warned

        with self._lock:
            if self._recorders is not None:
                self._recorders.flush()
            if not self.lookup.open_store():
                return RunMetrics(ref)
        return read_warned(self.lookup.store_fd, ref)

    def finish_metrics(self, ref: RunRef) -> dict[str, Any]:
        """Seal what was logged of a run here; its summary, empty if nothing was. Raises: StorageError."""
        recorders = self._recorders  # close() may drop it meanwhile
        return {} if recorders is None else dict(recorders.finish(ref))

    def flush_metrics(self) -> bool:
        """Write rows that have waited; False if no run is being logged. Raises: StorageError."""
        recorders = self._recorders  # close() may drop it meanwhile
        if recorders is None or not recorders.is_open:
            return False
        recorders.flush_due(host.now_ms())
        return True

    def put_manifest(self, held: OpenRun, end: End, at: Appended) -> None:
        """Write the manifest of a committed end. A failure is a warning: `rebuild` makes it anew."""
        created = held.created
        assert created is not None and held.attempt is not None, "an attempt that ended was begun or adopted"
        inputs = [held.inputs[name] for name in sorted(held.inputs)]
        ended = Ended(
            created.params, created.key, held.attempt, held.started, end, at.opened, at.opened.writer, at.seq,
            at.prefix, held.summary, held.facts, inputs,
        )  # fmt: skip
        path, data = encode_manifest(manifest_of(ended))
        try:
            put_manifest(self.lookup.store_fd, path, data)
        except StorageError as error:
            warnings.warn(
                f"{error}; the run is recorded, `tracker rebuild` makes its manifest",
                TrackerWarning,
                stacklevel=4,
            )

    def _put_manifest_of(self, event: Interrupted, at: Appended) -> None:
        held = self._running.get(event.run)
        if held is not None:
            self.put_manifest(held, event, at)

    # The store and its journal

    @property
    def lock(self) -> threading.RLock:
        """Held over several calls that belong together."""
        return self._lock

    def root_fd(self) -> int:
        """A descriptor of the root, with the store made. Below it users' folders are made.

        Raises: NotFoundError when the root was moved or removed under this process; StorageError.
        """
        with self._lock:
            self._ensure_store()
            here = inode_of(self.root)
            if self._root_fd >= 0 and self._root_inode == here:
                return self._root_fd
            if self._journal is not None and self._root_fd >= 0:
                raise NotFoundError(
                    f"root {self.root}",
                    "this process",
                    "it was moved or removed: open a Project on its new place",
                )
            if self._root_fd >= 0:
                durable.close_read(self._root_fd)
            self._root_fd = durable.open_root(str(self.root))
            self._root_inode = here
            return self._root_fd

    def _ensure_store(self) -> None:
        if self._journal is not None or self.lookup.open_store():
            return
        make_store(self.root)
        assert self.lookup.open_store(), "the store was just made"

    def _ensure_journal(self) -> Journal:
        if self._journal is None:
            self._ensure_store()
            if not self._refreshed:
                self._refresh()  # the clock is never behind an event that was there before
            writer = host.new_writer_id(self._clock(), os.urandom(10))
            ledger_fd = self.lookup.ledger_fd
            self._journal = Journal(ledger_fd, writer, host.this_process(), VERSION, self._tick)
            self.lookup.pin(writer)
            self._claims.settle(self.lookup.store_fd, str(self.root), writer, host.this_process())
            self._clean(ledger_fd)
            self._watch = Watch(self)
            _close_with_worker()
        return self._journal

    def _clean(self, ledger_fd: int) -> None:
        """Publish what dead writers left, and drop what sealed segments hide: a favour to later readers."""
        files = self.lookup.files()
        me = host.this_process()
        with contextlib.suppress(StorageError):  # nothing of ours is at stake
            for place in segments.choose(files)[0]:
                if place.name.kind == "open":
                    segments.publish_dead(ledger_fd, place, me, self._clock() / 1000)
            segments.unlink_ghosts(ledger_fd, files)

    def _tick(self) -> int:
        """The next value of the hybrid clock. Spec: spec/log.md section 6."""
        now = self._clock()
        seen = self.lookup.clock()
        if seen > self._last:
            self._adopt(seen, now)
        self._last = max(self._last + 1, now << 16)
        return self._last

    def _adopt(self, seen: int, now_ms: int) -> None:
        ahead_ms = (seen >> 16) - now_ms
        if ahead_ms > CLOCK_WARN_MS and not self._warned:
            self._warned = True
            warnings.warn(
                f"another writer's clock is {ahead_ms // 1000} s ahead of this host's; set the clocks by NTP",
                ClockWarning,
                stacklevel=6,
            )
        self._last = max(self._last, min(seen, (now_ms + CLOCK_AHEAD_MAX_MS) << 16))

    def listen(self) -> None:
        """Hear signals from here on, if this is the main thread."""
        interrupts.listen(self._watch)

    def close(self) -> None:
        """Seal and give back the descriptors; a later event begins a new writer.

        Raises: StorageError when sealing fails; the journal then stays as `.open`, readable by all.
        """
        with self._lock:
            if self._watch is not None:
                self._watch.tell("stop")
                self._watch = None
            if self._root_fd >= 0:
                durable.close_read(self._root_fd)
                self._root_fd = -1
            if self._journal is None:
                self.lookup.close_store()
                return
            try:
                recorders, self._recorders = self._recorders, None
                if recorders is not None:
                    recorders.close()
                self._seal(self._journal)
            finally:
                self._release_all()
                self._journal.close()
                self._journal = None
                self.lookup.close_store()

    def _release_all(self) -> None:
        for held in self._open_runs.values():
            held.claim = None
        with contextlib.suppress(StorageError):  # they are stale when this process ends
            self._claims.close()

    def end(self) -> None:
        """Close as the process ends: runs that it leaves without an end are declared lost.

        Raises: StorageError.
        """
        with self._lock:
            try:
                now, reason = host.now_ms(), "its process ended without done() or error()"
                running = [(ref, held.attempt) for ref, held in self._running.items() if held.attempt]
                if running:
                    self.append(lambda _: [Lost(ref, attempt, now, reason) for ref, attempt in running])
                self._running.clear()
            finally:
                self.close()

    def _forget_after_fork(self) -> None:
        self._lock = threading.RLock()
        self._watch = None
        self._refreshed = False
        self._sealed_at_s = -1e9
        self._running = {}
        for held in self._open_runs.values():
            held.claim = None
        self._claims.forget_after_fork()
        if self._recorders is not None:
            self._recorders.forget_after_fork()
            self._recorders = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self.lookup.forget_after_fork()


def _unsealed(held: OpenRun) -> list[File]:
    return [File(file.name, file.path, None, None, file.external) for file in held.attached.values()]


def _is_done(run: Run | None) -> bool:
    return run is not None and run.status is Status.DONE and not run.removed


def _numbers(run: Run | None) -> tuple[int, set[int]]:
    """The greatest claim number of a run's attempts, and those whose claims are spent."""
    attempts = [] if run is None else run.attempts
    spent = {a.claim for a in attempts if a.claim and a.status in _SPENT}
    return max((a.claim or 0 for a in attempts), default=0), spent


_SPENT = (Status.DONE, Status.ERROR, Status.LOST)


_ledgers: dict[str, Ledger] = {}
_ledgers_lock = threading.Lock()


def open_ledger(root: Path) -> Ledger:
    """The ledger of `root`: one object a root and process. Nothing is made or read."""
    key = os.path.realpath(root)
    with _ledgers_lock:
        ledger = _ledgers.get(key)
        if ledger is None:
            ledger = _ledgers[key] = Ledger(Path(key))
        return ledger


def iter_ledgers() -> Iterable[Ledger]:
    """The ledgers of this process."""
    return tuple(_ledgers.values())


def _close_all() -> None:
    for ledger in iter_ledgers():
        try:
            ledger.end()
        except StorageError as error:
            warnings.warn(
                f"not sealed at exit: {error}; the journal holds the events", TrackerWarning, stacklevel=1
            )


def _close_with_worker() -> None:
    """Close as a worker of multiprocessing ends, too: one that was forked runs no exit handlers."""
    global _worker_pid
    util, process = (sys.modules.get(f"multiprocessing.{name}") for name in ("util", "process"))
    if util is None or process is None or process.parent_process() is None or _worker_pid == os.getpid():
        return
    _worker_pid = os.getpid()
    util.Finalize(None, _close_all, exitpriority=0)


_worker_pid = 0
"""The worker that closes as it ends: this process, or one from which it was forked."""


def _forget_all() -> None:
    global _ledgers_lock
    _ledgers_lock = threading.Lock()
    for ledger in iter_ledgers():
        ledger._forget_after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
