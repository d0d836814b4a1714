"""One run in one process: start, paths, files, done.

A light handle: making one writes nothing. The run is recorded by its first start, attach, tag or done. The
order of writes is the ledger's; where files lie is `names`'; a session composes.

Spec: spec/events.md section 4; spec/log.md section 8.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tracker import interrupts, liveness
from tracker._codec.canonical import parse
from tracker._codec.caution import warn_about
from tracker._disk import host
from tracker._model import names
from tracker._model.event import (
    Attached,
    Attachment,
    Created,
    Done,
    End,
    Event,
    Failed,
    Interrupted,
    Restored,
    Rule,
    Started,
)
from tracker._model.fold import Attempt, Run
from tracker._store import outputs
from tracker._store.journal import Appended
from tracker.claiming import Claim, Rival
from tracker.errors import ClaimedError, NameRefusedError, StateError, StorageError, TrackerWarning
from tracker.ledger import Ledger, OpenRun, open_ledger
from tracker.terms import AttemptId, Durability, RunRef, Status, StorageMode, Uid

STARTED_ANEW = "started anew"
"""The reason that a start gives for bringing a removed run back."""

_REPEAT = "@repeat"
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class Session:
    """One run, `(identifier, uid)` in a namespace, as this process sees and writes it.

    Get it from `Project.session`, `.get` or `.find`. It is a context manager: entering starts the run,
    leaving records done, an exception records error with its traceback and goes on up; Ctrl-C and SIGTERM
    are recorded as interrupted.
    """

    __slots__ = (
        "__weakref__",
        "_begun",
        "_claimed",
        "_durability",
        "_founding",
        "_identifier",
        "_ignored",
        "_key",
        "_ledger",
        "_makes_folders",
        "_mode",
        "_open",
        "_relpath",
        "_root",
        "_text",
        "_uid",
    )

    def __init__(
        self,
        ledger: Ledger,
        root: Path,
        relpath: str,
        identifier: str,
        uid: Uid,
        key: Uid | None,
        text: bytes,
        mode: StorageMode,
        durability: Durability,
        *,
        makes_folders: bool = True,
        ignored: str | None = None,
        founding: tuple[Rule, ...] = (),
    ) -> None:
        self._ledger = ledger
        self._root = root
        self._relpath = relpath
        self._identifier = identifier
        self._uid = uid
        self._key = key
        self._text = text
        self._mode = mode
        self._durability = durability
        self._makes_folders = makes_folders
        self._ignored = ignored
        self._founding = founding
        self._open: OpenRun | None = None
        self._claimed: Claim | None = None
        self._begun = False

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process goes where the run is, not what this one holds of it."""
        return _session_at, (
            self._root, self._relpath, self._identifier, self._uid, self._key, self._text, self._mode,
            self._durability, self._makes_folders, self._ignored, self._founding,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Session {self.ref} in {str(self._root)!r}>"

    # What it is

    @property
    def ref(self) -> RunRef:
        """`relpath/identifier/uid`: the run's name in its store."""
        return names.run_ref(self._relpath, self._identifier, self._uid)

    @property
    def identifier(self) -> str:
        """The kind of run."""
        return self._identifier

    @property
    def uid(self) -> Uid:
        """BLAKE3 of `params.json`, 32 hex digits. Spec: spec/canonical.md."""
        return self._uid

    @property
    def key(self) -> Uid | None:
        """The uid of the bare params: the same for a run and its repeats. None without params."""
        return self._key

    @property
    def relpath(self) -> Path:
        """The namespace, relative to the root."""
        return Path(self._relpath)

    @property
    def storage_mode(self) -> StorageMode:
        """Where the run's files lie."""
        return self._mode

    @property
    def params(self) -> dict[str, Any]:
        """The params as they read back: 1.0 is a float. A new dict at each call.

        LIMIT: NaN and the infinities read back as their words, tuples as lists.
        """
        tree = parse(self._text)
        tree.pop(_REPEAT, None)
        return tree

    @property
    def ignored(self) -> dict[str, Any]:
        """The params given here that the store's rules ignore: no part of `params`. A new dict at each call.

        Empty for a handle that was not asked for by its params. Spec: spec/rules.md section 4.
        """
        return {} if self._ignored is None else parse(self._ignored.encode())

    # What is known of it

    @property
    def status(self) -> Status:
        """The run's status at this moment, of all its attempts in any process. Cost: 5 to 10 µs."""
        row = self._ledger.row(self._uid, self._identifier, self._relpath)
        status = Status.PENDING if row is None else Status(row.status)
        run = self.run if status is Status.RUNNING else None
        return status if run is None else liveness.as_seen(self._ledger, run).status

    def is_done(self) -> bool:
        """True if the run is finished. A True may be 0.1 s old, a False 0.1 ms."""
        row = self._ledger.row(self._uid, self._identifier, self._relpath)
        return row is not None and row.status == Status.DONE

    @property
    def run(self) -> Run | None:
        """All that is recorded of the run, with its attempts; None if nothing is."""
        return self._ledger.run(self.ref)

    @property
    def files(self) -> dict[str, Path]:
        """The run's recorded files: name to path."""
        run = self.run
        attempt = None if run is None else self._own_attempt(run) or run.attempt
        files = [] if attempt is None else attempt.files
        return {file.name: self._root / file.path for file in files}

    def _own_attempt(self, run: Run) -> Attempt | None:
        mine = None if self._open is None else self._open.attempt
        return next((a for a in run.attempts if a.id == mine), None)

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
        return self._root / names.folder_of(self._relpath, self._uid, self._mode)

    def path(self, name: str | os.PathLike[str], include_identifier: bool = True) -> Path:
        """The path of a file of this run. Its folders and `params.json` are made; the file is yours to write.

        A file handed out here and written is sealed at `done()`: size and digest.

        Raises: NameRefusedError for a name that is not portable, or that is another run's file.
        Cost: 60 µs the first time, then 5 µs. Spec: spec/layout.md section 4.
        """
        checked = names.check_name(name if isinstance(name, str) else Path(name))
        path = names.file_path(
            self._relpath, self._identifier, self._uid, self._mode, checked, include_identifier
        )
        self._make_folder()
        if self._makes_folders:
            self._hand_out(path, checked)
        return self._root / path

    def _make_folder(self) -> None:
        """Make the run's folder and `params.json`. On a read-only store a recorded run is only read."""
        if not self._makes_folders or (self._open is not None and self._open.has_folder):
            return
        try:
            root_fd = self._ledger.root_fd()
            outputs.make_run_folder(root_fd, names.folder_of(self._relpath, self._uid, self._mode))
            outputs.put_params(root_fd, names.params_path(self._relpath, self._uid, self._mode), self._text)
        except StorageError as error:
            if error.errno in _READ_ONLY and self.status is not Status.PENDING:
                self._makes_folders = False
                return
            raise
        self._opened().has_folder = True

    def _hand_out(self, path: str, name: str) -> None:
        handed = self._opened().handed
        if path in handed:
            return
        folded = names.fold_name(path)
        rival = next((other for other in handed if names.fold_name(other) == folded), None)
        if rival is not None:
            raise NameRefusedError(
                "file name",
                name,
                f"is one name with {handed[rival]!r} on some file systems",
                "use one spelling",
            )
        self._refuse_foreign(path, name)
        if "/" in name:
            outputs.make_run_folder(self._ledger.root_fd(), path.rpartition("/")[0])
        handed[path] = name if name not in handed.values() else path

    def _refuse_foreign(self, path: str, name: str) -> None:
        others = self._ledger.others_with_uid(self._uid, self._relpath, self.ref)
        owner = self._ledger.is_file_of(others, path)
        if owner is not None:
            raise NameRefusedError("file name", name, f"is a file of run {owner}", "choose another name")

    def _opened(self) -> OpenRun:
        self._open = self._ledger.opened(self.ref, self._open)
        return self._open

    # Writing

    def start(self) -> Self:
        """Begin an attempt and return self. A finished or failed run is begun anew; the new attempt counts.

        Takes the run's claim: no other worker that sees this folder executes it until this one ends.

        Raises: StateError if this process is executing the run already; ClaimedError if another is;
        StorageError.
        Cost: 90 µs. Spec: spec/claims.md section 6; spec/events.md section 4.
        """
        with self._ledger.lock:
            held = self._opened()
            if held.was_started:
                raise StateError(
                    self.ref,
                    Status.RUNNING,
                    "start() while this process executes it",
                    "call done() or error() first",
                )
            if not held.is_running:  # else attach_files() began it
                self._claim_and_begin(held, lambda _: [])
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

    def _claim_and_begin(self, held: OpenRun, more: Any) -> None:
        if held.claim is None:
            rival = self._ledger.take_claim(self.ref, held, unless_done=False)
            if isinstance(rival, Rival):
                since_ms = liveness.claimed_since_ms(self._ledger, self.ref, rival)
                cure = "wait for its end, or use try_start()"
                raise ClaimedError(self.ref, str(rival), since_ms, cure)
        try:
            self._begin(held, more)
        except BaseException:
            self._ledger.release_claim(held)
            raise

    def done(self) -> Self:
        """Record the run as done, with its files sealed, and return self.

        When this returns the run is done, whatever happens to the process, and under Durability.FULL whatever
        happens to the power: files first, then the event, then the return. Without `start()` an attempt is
        begun and ended at once.

        Raises: StorageError when the disk refuses; then nothing is promised, and done() may be called again.
        Cost: 50 µs and, by durability, none, 1 or about 5 syncs. Spec: spec/log.md section 8.
        """
        self._end(lambda attempt, now, files: Done(self.ref, attempt, now, files))
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
        self._end(lambda attempt, now, files: Failed(self.ref, attempt, now, files, type_, message, trace))
        return self

    def interrupt(self, signal_name: str | None = None) -> Self:
        """Record the run as interrupted: told to stop, and free to be begun again.

        `signal_name` is the signal that this process heard, unless given. Raises: StorageError.
        """
        name = signal_name or interrupts.signal_name()
        batch = host.this_process().batch
        restarts = 0 if batch is None else batch.restarts
        self._end(lambda attempt, now, files: Interrupted(self.ref, attempt, now, files, name, restarts))
        return self

    def attach_files(self, files: Mapping[str, str | os.PathLike[str]]) -> Self:
        """Name files as the run's, and return self. They may lie anywhere and need not exist yet.

        A file below the root is recorded by its relative path, another as external with its absolute one,
        which a copy of the tree does not carry. They are sealed at `done()`.

        Raises: NameRefusedError for a name or path that cannot be kept, before any is recorded; StorageError.
        """
        attachments = [self._attachment(name, path) for name, path in files.items()]
        with self._ledger.lock:
            held = self._opened()
            if held.attempt is None and not self._adopt_ended(held):
                self._claim_and_begin(
                    held, lambda attempt: [Attached(self.ref, attempt, attachments)] if attachments else []
                )
            elif attachments:
                attempt = held.attempt
                assert attempt is not None, "an attempt was begun or adopted"
                self._ledger.append(lambda _: [Attached(self.ref, attempt, attachments)])
            held.attached.update((file.name, file) for file in attachments)
        return self

    def _adopt_ended(self, held: OpenRun) -> bool:
        """Files attached to a finished run belong to the attempt that counts."""
        run = self.run
        attempt = None if run is None else run.attempt
        if run is None or run.removed or attempt is None or attempt.status is not Status.DONE:
            return False
        held.attempt, held.started = attempt.id, attempt.started
        held.attached = {f.name: Attachment(f.name, f.path, f.external) for f in attempt.files}
        return True

    def _attachment(self, name: str, path: str | os.PathLike[str]) -> Attachment:
        if (
            not isinstance(name, str)
            or not name
            or len(name.encode("utf-8", "replace")) > 255
            or not name.isprintable()
        ):
            raise NameRefusedError(
                "attached file's name", name, "is not 1 to 255 bytes of printable text", "choose another"
            )
        place = os.path.abspath(os.fspath(path))
        try:
            place.encode()
        except UnicodeEncodeError as error:
            raise NameRefusedError("attached file", place, "its path is not UTF-8", "rename it") from error
        root = str(self._root)
        for base in (root, os.path.realpath(root)):
            if place.startswith(base + os.sep):
                return Attachment(name, place[len(base) + 1 :].replace(os.sep, "/"), external=False)
        real = os.path.realpath(place)
        if real.startswith(os.path.realpath(root) + os.sep):
            return Attachment(
                name, os.path.relpath(real, os.path.realpath(root)).replace(os.sep, "/"), external=False
            )
        return Attachment(name, place, external=True)

    def _begin(self, held: OpenRun, more: Any, *, running: bool = True) -> Appended:
        """Append created (if the run is not recorded), started and what `more` makes for the attempt's id."""
        if held.attempt is not None:  # what was attached to an earlier attempt is not this one's
            held.attached = {}
        run = self._ledger.run(self.ref)
        before: list[Event] = []
        created = self._created_if_new(run)
        if created is not None:
            known = set(self._ledger.lookup.rules()) if self._founding else set()
            before += [rule for rule in self._founding if rule not in known]
            before.append(created)
        if run is not None and run.removed:
            before.append(Restored(self.ref, STARTED_ANEW))
        supersedes = [] if run is None else liveness.superseded_by_a_start(self._ledger, run, held)
        before += [] if run is None else liveness.taken_over(self._ledger, run, held)
        number = 0 if held.claim is None else held.claim.number
        started = Started(self.ref, host.now_ms(), supersedes, number, self._mode, None)

        def events(attempt: AttemptId) -> list[Event]:
            return [*before, started, *more(attempt)]

        appended = self._ledger.append(events)
        held.attempt = f"{self._ledger.writer}-{appended.seq}"  # type: ignore[assignment]
        held.started = started
        held.created = Created(self.ref, self._text.decode(), self._key, self._mode)
        self._ledger.settle_claim(held)
        if running:
            self._ledger.set_running(self.ref, held, is_running=True)
        return appended

    def _created_if_new(self, run: Run | None) -> Created | None:
        if run is not None and run.params is not None:
            return None
        self._ledger.refuse_spellings(self._relpath, self._identifier)
        self._warn()
        return Created(self.ref, self._text.decode(), self._key, self._mode, self._ignored)

    def _warn(self) -> None:
        """Say what in the params may not mean what its author meant. Spec: spec/canonical.md, "Warnings"."""
        others = self._ledger.lookup.twins(self._text.decode(), self._uid, self._identifier, self._relpath)
        twins = tuple(other.encode() for other in sorted(others)[:1])
        warn_about(self._text, twins=twins, stacklevel=_caller_level())

    def _end(self, event_of: Any) -> None:
        """Seal the files, record the end, commit, write the manifest: in this order."""
        held = self._opened()
        if held.handed or held.attached:
            self._ledger.root_fd()  # raises if the tree was moved: its files would be missed
        # large files take long: other threads may record meanwhile
        files = outputs.seal_files(self._root, self._sealable(held))
        if self._durability is Durability.FULL:
            self._sync(files, held)
        now = host.now_ms()
        with self._ledger.lock:
            if held.attempt is None or (not held.is_running and self._is_removed()):
                appended = self._begin(held, lambda attempt: [event_of(attempt, now, files)], running=False)
            else:
                attempt = held.attempt
                appended = self._ledger.append(lambda _: [event_of(attempt, now, files)])
            self._ledger.commit(self._durability)
            # committed: the run has ended, whatever happens from here on
            self._warn_if_lost(held)
            self._ledger.set_running(self.ref, held, is_running=False)
            self._write_manifest(held, appended)

    def _is_removed(self) -> bool:
        run = self.run
        return run is not None and run.removed

    def _warn_if_lost(self, held: OpenRun) -> None:
        """Say that the run was taken over. It has ended: a look that the system refuses changes nothing."""
        try:
            is_lost = self._ledger.is_claim_lost(held)
        except StorageError:
            return
        if is_lost:
            warnings.warn(
                f"run {self.ref} was taken over by another worker while this process gave no sign of life;"
                " both attempts are kept",
                TrackerWarning,
                stacklevel=_caller_level(),
            )

    def _sealable(self, held: OpenRun) -> list[Attachment]:
        """What was attached, and what was handed out, not attached, and written."""
        attached = {file.path for file in held.attached.values()}
        root = self._root
        handed = [
            Attachment(name, path, external=False)
            for path, name in held.handed.items()
            if path not in attached and name not in held.attached and outputs.exists(root, path)
        ]
        return [*held.attached.values(), *handed]

    def _sync(self, files: list[Any], held: OpenRun) -> None:
        paths = [file.path for file in files]
        if held.has_folder:
            paths.append(names.params_path(self._relpath, self._uid, self._mode))
        if paths:
            outputs.sync_files(self._root, self._ledger.root_fd(), paths)

    def _write_manifest(self, held: OpenRun, appended: Appended) -> None:
        end = appended.events[-1]
        assert isinstance(end, End), "the end stands last in its frame"
        assert held.attempt is not None, "an attempt that ended has begun"
        created = Created(self.ref, self._text.decode(), self._key, self._mode)
        self._ledger.put_manifest(created, held.attempt, held.started, end, appended)

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


def _session_at(
    root: Path,
    relpath: str,
    identifier: str,
    uid: Uid,
    key: Uid | None,
    text: bytes,
    mode: StorageMode,
    durability: Durability,
    makes_folders: bool,
    ignored: str | None,
    founding: tuple[Rule, ...],
) -> Session:
    """A handle that came from another process."""
    return Session(
        open_ledger(root), root, relpath, identifier, uid, key, text, mode, durability,
        makes_folders=makes_folders, ignored=ignored, founding=founding,
    )  # fmt: skip


def _caller_level() -> int:
    """How far up, counted from whoever asks, the first line outside this package stands."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


_PACKAGE = os.path.dirname(__file__) + os.sep


def _type_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _clean(text: str) -> str:
    """Text that UTF-8 carries."""
    return text.encode("utf-8", "backslashreplace").decode()
