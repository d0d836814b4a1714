"""One run in one process: start, paths, files, done.

A light handle: making one writes nothing. The run is recorded by its first start, attach, tag or done. The
order of writes is the ledger's; where files lie is `names`'; a session composes.

Spec: spec/events.md section 4; spec/log.md section 8.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import replace

from tracker import interrupts
from tracker._disk import host
from tracker._model import names
from tracker._model.event import Attached, Attachment, Done, Failed, Interrupted, Used
from tracker.claiming import Claim
from tracker.errors import ParamsError, StateError, StorageError
from tracker.ledger import Ledger, OpenRun, open_ledger
from tracker.session import attempt
from tracker.session.files import attachment_of, hand_out, is_recorded_and_read_only, make_folder
from tracker.session.marked import MarkedRun
from tracker.session.measured import begin_logging, begin_sampling, end_sampling
from tracker.session.place import Place
from tracker.terms import Capture, Status

if TYPE_CHECKING:
    from tracker.metrics import Recorder


class Session(MarkedRun):
    """One run, `(identifier, uid)` in a namespace, as this process sees and writes it.

    Get it from `Project.session`, `.get` or `.find`. It is a context manager: entering starts the run,
    leaving records done, an exception records error with its traceback and goes on up; Ctrl-C and SIGTERM
    are recorded as interrupted.
    """

    __slots__ = ("_begun", "_claimed", "_makes_folders", "_recorder")

    def __init__(self, ledger: Ledger, place: Place) -> None:
        super().__init__(ledger, place)
        self._makes_folders = place.makes_folders
        self._claimed: Claim | None = None
        self._begun = False
        self._recorder: Recorder | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes where the run is, not what this one holds of it."""
        return _session_at, (replace(self._place, makes_folders=self._makes_folders),)

    @property
    def should_stop(self) -> bool:
        """True once this process was told to stop (SIGTERM, SIGUSR1) or has lost the run: for loops to poll.

        Cost: 0.2 µs; that the run was lost is known within a minute.
        """
        claim = None if self._open is None else self._open.claim
        return interrupts.signal_name() is not None or (claim is not None and claim.is_lost)

    @property
    def lost(self) -> bool:
        """True once another worker has taken the run over, since this process gave no sign of life.

        What is recorded still is kept. Cost: 12 µs. Spec: spec/claims.md section 6.
        """
        return self._open is not None and self._ledger.is_claim_lost(self._open)

    # Its paths

    @property
    def folder(self) -> Path:
        """The folder of the run's files, made when first asked for."""
        self._make_folder()
        return self._place.root / self._place.folder

    def path(self, name: str | os.PathLike[str], include_identifier: bool = True) -> Path:
        """The path of a file of this run. Its folders and `params.json` are made; the file is yours to write.

        A file handed out here and written is sealed at `done()`: size and digest.

        Raises: NameRefusedError for a name that is not portable, or that is another run's file.
        Cost: 60 µs the first time, then 5 µs. Spec: spec/layout.md section 4.
        """
        checked = names.check_name(name if isinstance(name, str) else Path(name))
        path = self._place.file_path(checked, include_identifier=include_identifier)
        self._make_folder()
        if self._makes_folders:
            hand_out(self._ledger, self._place, self._opened(), path, checked)
        return self._place.root / path

    def _make_folder(self) -> None:
        """Make the run's folder and `params.json`. On a read-only store a recorded run is only read."""
        if not self._makes_folders or (self._open is not None and self._open.has_folder):
            return
        try:
            make_folder(self._ledger, self._place, self._opened())
        except StorageError as error:
            if not is_recorded_and_read_only(self._ledger, self._place, error):
                raise
            self._makes_folders = False

    def _opened(self) -> OpenRun:
        self._open = self._ledger.opened(self.ref, self._open)
        return self._open

    # Writing

    def start(self, *, seeds: Mapping[str, int] | None = None, capture: Capture | str | None = None) -> Self:
        """Begin an attempt and return self. A finished or failed run is begun anew; the new attempt counts.

        `seeds` are recorded among its facts; else those that the params name as such. With `capture` "tee"
        what the process prints until the end is kept in the run's `output.log`; the project's unless given.

        Takes the run's claim: no other worker that sees this folder executes it until this one ends.

        Raises: StateError if this process is executing the run already; ClaimedError if another is;
        StorageError.
        Cost: 90 µs. Spec: spec/claims.md section 6; spec/events.md section 4.
        """
        wanted = self._place.settings.capture if capture is None else Capture(capture)
        with self._ledger.lock:
            held = self._opened()
            if held.was_started:
                raise StateError(
                    self.ref,
                    Status.RUNNING,
                    "start() while this process executes it",
                    "call done() or error() first",
                )
            if held.is_running:  # a file, a row or an input that was told before began it
                attempt.go_on(self._ledger, self._place, held, seeds=seeds, capture=wanted)
            else:
                attempt.claim_and_begin(
                    self._ledger, self._place, held, attempt.no_more, seeds=seeds, capture=wanted
                )
            held.was_started = self._begun = True
        self._ledger.listen()
        return self

    def try_start(self) -> bool:
        """Begin an attempt if the run is not done and nobody is executing it. True if it is begun.

        Raises: StorageError. Cost: 90 µs.
        """
        with self._ledger.lock:
            held = self._opened()
            is_ours = held.is_running or held.claim is not None
            if held.was_started or not (is_ours or self.claim()):
                return False
            self.start()
        return True

    def claim(self) -> bool:
        """Take the right to execute the run, if it is not done and nobody has it. True if it was taken.

        Records nothing. `start()` or `done()` use the claim; `release()` gives it back unused.

        Raises: StorageError. Cost: 60 µs.
        """
        with self._ledger.lock:
            held = self._opened()
            if held.is_running or held.claim is not None:
                return False
            if self._ledger.take_claim(self.ref, held, unless_done=True) is not None:
                return False
            self._claimed = held.claim
            return True

    def release(self) -> None:
        """Give back the claim that this handle took, if it was not used. Does nothing once a run is begun."""
        with self._ledger.lock:
            held = self._opened()
            if self._claimed is not None and held.claim is self._claimed and not held.is_running:
                self._ledger.release_claim(held)
            self._claimed = None

    def done(self) -> Self:
        """Record the run as done, with its files sealed, and return self.

        When this returns the run is done, whatever happens to the process, and under Durability.FULL whatever
        happens to the power: files first, then the event, then the return. Without `start()` an attempt is
        begun and ended at once.

        Raises: StorageError when the disk refuses; then nothing is promised, and done() may be called again.
        Cost: 50 µs and, by durability, none, 1 or about 5 syncs. Spec: spec/log.md section 8.
        """
        self._end(lambda id_, now, sealed: Done(self.ref, id_, now, sealed))
        return self

    def error(self, exception: BaseException | None = None) -> Self:
        """Record the run as failed, with the exception and its traceback if given, and return self.

        Raises: StorageError. Spec: spec/events.md section 2.
        """
        type_, message, trace = "", "", None
        if exception is not None:
            type_ = _type_name(type(exception))
            message = _clean(str(exception))
            text = "".join(traceback.format_exception(exception))
            trace = bytes.fromhex(self._ledger.put_object(_clean(text).encode()))
        self._end(lambda id_, now, sealed: Failed(self.ref, id_, now, sealed, type_, message, trace))
        return self

    def interrupt(self, signal_name: str | None = None) -> Self:
        """Record the run as interrupted: told to stop, and free to be begun again.

        `signal_name` is the signal that this process heard, unless given. Raises: StorageError.
        """
        name = signal_name or interrupts.signal_name()
        batch = host.this_process().batch
        restarts = 0 if batch is None else batch.restarts
        self._end(lambda id_, now, sealed: Interrupted(self.ref, id_, now, sealed, name, restarts))
        return self

    def _end(self, end_of: attempt.EndOf) -> None:
        end_sampling(self._opened())
        attempt.end(self._ledger, self._place, self._opened(), end_of)

    def attach_files(self, files: Mapping[str, str | os.PathLike[str]]) -> Self:
        """Name files as the run's, and return self. They may lie anywhere and need not exist yet.

        A file below the root is recorded by its relative path, another as external with its absolute one,
        which a copy of the tree does not carry. They are sealed at `done()`.

        Raises: NameRefusedError for a name or path that cannot be kept, before any is recorded; StorageError.
        """
        root = self._place.root
        self._attach([attachment_of(root, name, path) for name, path in files.items()])
        return self

    def _attach(self, attachments: list[Attachment]) -> None:
        with self._ledger.lock:
            held = self._opened()
            self._tell(held, lambda id_: [Attached(self.ref, id_, attachments)] if attachments else [])
            held.attached.update((file.name, file) for file in attachments)

    def _tell(self, held: OpenRun, events_of: attempt.EventsOf) -> None:
        """Append events about the attempt: the one begun here, else the finished one, else a new one."""
        if held.attempt is None and not attempt.adopt_ended(self._ledger, self._place, held):
            attempt.claim_and_begin(self._ledger, self._place, held, events_of)
            return
        assert held.attempt is not None, "an attempt was begun or adopted"
        events = events_of(held.attempt)
        if events:
            self._ledger.append(lambda _: events)

    # What it measures

    def log(
        self, values: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any
    ) -> None:
        """Log one row of metrics: numbers by name, at `step`, which is one more than the last unless given.

        Rows are gathered in memory and written at 4,096 rows or after 5 s, by flush(), and at the run's end:
        a process that is killed loses what came since. A worker that logs of a run which another process
        executes records it beside, and begins nothing, as does a rank above 0 (RANK, SLURM_PROCID); else
        log() begins an attempt if none was. A name given twice has the value of the map.

        Raises: MetricError for what is no number or name; StateError for a finished run; StorageError.
        Cost: 1 µs for three numbers. Spec: spec/metrics.md.
        """
        recorder = self._recorder
        if recorder is None or recorder.is_finished:
            recorder = self._recorder = self._begin_logging()
        recorder.log(named if values is None else {**named, **values} if named else values, step)

    def flush(self) -> None:
        """Write what was logged so far: when this returns it survives kill -9. Raises: StorageError."""
        if self._recorder is not None:
            self._recorder.flush()

    def sample_system(self, period_s: float = 10.0) -> Self:
        """Log what this process uses of the machine, every `period_s` seconds until the end; return self.

        `system/cpu` (percent of a core), `system/rss_bytes`, and of GPUs `system/gpu0/percent` and the like,
        from a thread of its own; their steps count the samples.

        Raises: StateError for a finished run; ValueError for a period under 0.1 s; StorageError.
        """
        with self._ledger.lock:
            begin_sampling(self._opened(), self._begin_logging(), period_s)
        return self

    def _begin_logging(self) -> Recorder:
        return begin_logging(self._ledger, self._place, self._opened())

    # What it reads and keeps

    def save(self, name: str, source: object) -> Path:
        """Keep bytes as a file of the run, in the object store, once however often saved; return its path.

        `source`: bytes; the path of a file, which is copied or cloned; a dict or list, as JSON; an array.

        Raises: NameRefusedError, ParamsError for what none of these is, before anything is recorded;
        StorageError. Spec: spec/sealing.md section 5.
        """
        from tracker.artefacts import save

        file = save(self._ledger, name, source)
        self._attach([Attachment(file.name, file.path, external=False)])
        return self._place.root / file.path

    def use(self, source: str | os.PathLike[str], name: str | None = None) -> Path:
        """Record a file, or the files of a folder, as read by this run, by digest; return its path.

        If it is another run's output, that run is recorded too. `name` is the file's own unless given.

        Raises: NotFoundError for what is not there; NameRefusedError; StorageError.
        Spec: spec/sealing.md section 6.
        """
        from tracker.artefacts import inputs_of, named_apart

        if not isinstance(source, str | os.PathLike):
            raise ParamsError("used file", f"{source!r} is no path; give the path of a file or folder")
        path = Path(os.path.abspath(source))
        file = attachment_of(self._place.root, path.name if name is None else name, path)
        # large files take long: other threads may record, and claims be renewed, meanwhile
        found = inputs_of(self._ledger, file, self._place.settings.seal)
        with self._ledger.lock:
            held = self._opened()
            inputs = named_apart(found, held.inputs if name is None else {})
            self._tell(held, lambda id_: [Used(self.ref, id_, inputs)])
            held.inputs = held.inputs | {one.name: one for one in inputs}
        return path

    # As a context

    def __enter__(self) -> Self:
        is_begun = self._begun and self._opened().was_started  # by start() or try_start() of this handle
        self._begun = False
        if not is_begun:
            self.start()
            self._begun = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exception is None:
            if self._opened().is_running:
                self.done()
        elif isinstance(exception, KeyboardInterrupt):
            self.interrupt(signal.Signals.SIGINT.name)
        elif isinstance(exception, SystemExit) and interrupts.signal_name() is not None:
            self.interrupt(interrupts.signal_name())
        else:
            self.error(exception)


def _session_at(place: Place) -> Session:
    """A handle that came from another process."""
    return Session(open_ledger(place.root), place)


def _type_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _clean(text: str) -> str:
    """Text that UTF-8 carries."""
    return text.encode("utf-8", "backslashreplace").decode()
