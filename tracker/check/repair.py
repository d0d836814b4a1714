"""repair: derived files as the ledger says they are, and damaged pieces set aside.

Each step is one thing done whole or not at all, found anew by the next call if a crash comes before it. None
deletes bytes that are nowhere else. A damaged segment stays where it is: what is good in it counts.

Spec: spec/recovery.md section 4.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

from tracker._disk import durable, host
from tracker._model import names
from tracker._model.fold import Run
from tracker._model.names import FORMAT, LEDGER, STORE
from tracker._store import manifests, objects, outputs, segments
from tracker._store.quarantine import quarantine, quarantine_outside
from tracker._store.root import FORMAT_BYTES, make_store
from tracker._store.segments import SegmentFile
from tracker.check import measured, packed
from tracker.check.files import runs_of
from tracker.check.findings import Mend, Progress, Repaired, Step, no_progress
from tracker.check.reading import Reading, implied_manifests, read_ledger
from tracker.errors import NotFoundError, StorageError
from tracker.ledger import Ledger
from tracker.terms import StorageMode


def repair(ledger: Ledger, progress: Progress = no_progress, *, dry_run: bool = False) -> Repaired:
    """Mend what can be made anew from the ledger; with `dry_run` only say what would be.

    What the system refuses is told and left as it was; the other steps are taken.

    Raises: NotFoundError where there is no store; DamagedError for a FORMAT that is none, VersionError for a
    newer one; StorageError when the store cannot be read at all.
    Cost: as `verify --full` without the sealed files.
    """
    if not ledger.lookup.open_store():
        raise NotFoundError("store", str(ledger.root), "the first run makes it")
    with ledger.lock:
        root_fd = durable.open_root(str(ledger.root))
        try:
            reading = read_ledger(ledger.lookup.ledger_fd, progress)
            steps = [*_Plan(ledger, root_fd, reading).iter_steps()]
            if dry_run:
                return Repaired([mend for mend, _ in steps], [])
            return _take(steps, progress)
        finally:
            durable.close_read(root_fd)


def _take(steps: list[Step], progress: Progress) -> Repaired:
    mended: list[Mend] = []
    refused: list[Mend] = []
    for done, (mend, act) in enumerate(steps):
        progress("repairs", done, len(steps))
        try:
            act()
        except StorageError as error:
            refused.append(Mend(mend.code, mend.path, str(error)))
        else:
            mended.append(mend)
    return Repaired(mended, refused)


class _Plan:
    """All steps, in the order in which they are taken: what others rest on comes first."""

    def __init__(self, ledger: Ledger, root_fd: int, reading: Reading) -> None:
        self._ledger = ledger
        self._root_fd = root_fd
        self._store_fd = ledger.lookup.store_fd
        self._ledger_fd = ledger.lookup.ledger_fd
        self._reading = reading

    def iter_steps(self) -> Iterator[Step]:
        yield from self._iter_format()
        yield from self._iter_journals()
        yield from self._iter_ghosts()
        yield from packed.iter_steps(self._store_fd)
        yield from measured.iter_steps(self._store_fd)
        yield from self._iter_manifests()
        yield from self._iter_objects()
        yield from self._iter_params()

    def _iter_format(self) -> Iterator[Step]:
        path = f"{STORE}/{FORMAT}"
        if not durable.exists(path, self._root_fd) or durable.read_file(path, self._root_fd) != FORMAT_BYTES:
            yield Mend("format", path, "write it anew"), partial(make_store, self._ledger.root)

    def _iter_journals(self) -> Iterator[Step]:
        me, now_s = host.this_process(), host.now_ms() / 1000
        for place in segments.choose(segments.list_segments(self._ledger_fd))[0]:
            if segments.is_left_behind(self._ledger_fd, place, me, now_s):
                publish = partial(segments.publish_dead, self._ledger_fd, place, me, now_s)
                what = "publish what its writer, who is gone, left"
                yield Mend("journal", f"{STORE}/{LEDGER}/{place.path}", what), publish

    def _iter_ghosts(self) -> Iterator[Step]:
        files = segments.list_segments(self._ledger_fd)
        hidden = segments.choose(files)[1]
        for ghost in (place for place in hidden if segments.is_loose(self._ledger_fd, place)):
            sealed = [
                f for f in files if f.owner == ghost.owner and f.name.kind == "seg" and self._is_sound(f)
            ]
            if sealed:
                unlink = partial(segments.unlink_ghosts, self._ledger_fd, [ghost, *sealed])
                what = "drop it: the sealed segment of the same writer and number holds it"
                yield Mend("ghost", f"{STORE}/{LEDGER}/{ghost.path}", what), unlink

    def _is_sound(self, place: SegmentFile) -> bool:
        segment = segments.read_segment(self._ledger_fd, place)
        return segment is not None and not segment.damage

    def _iter_manifests(self) -> Iterator[Step]:
        implied = implied_manifests(self._reading)
        there = [*manifests.iter_manifests(self._store_fd)]
        unfit = {path for path in there if not self._holds_manifest(path)}
        loose = set(manifests.iter_loose(self._store_fd))
        for path in sorted(p for p in unfit & loose if not self._is_cut(p, implied.get(p, b""))):
            aside = partial(quarantine, self._store_fd, path)
            yield Mend("manifest", f"{STORE}/{path}", "set aside what it holds"), aside
        for path in sorted((implied.keys() - set(there)) | (implied.keys() & unfit)):
            put = partial(manifests.put_manifest, self._store_fd, path, implied[path])
            yield Mend("manifest", f"{STORE}/{path}", "write it anew"), put

    def _holds_manifest(self, path: str) -> bool:
        try:
            return manifests.read_manifest(self._store_fd, path) is not None
        except StorageError:
            return False

    def _is_cut(self, path: str, whole: bytes) -> bool:
        try:
            return durable.is_cut_short(durable.read_file(path, self._store_fd), whole)
        except StorageError:
            return False

    def _iter_objects(self) -> Iterator[Step]:
        for path in objects.iter_objects(self._store_fd):
            if not self._holds_object(path):
                what = "set it aside, so that its bytes may be put again"
                yield Mend("object", f"{STORE}/{path}", what), partial(quarantine, self._store_fd, path)

    def _holds_object(self, path: str) -> bool:
        try:
            return objects.is_sound(self._store_fd, path)
        except StorageError:
            return False

    def _iter_params(self) -> Iterator[Step]:
        seen: set[str] = set()
        for run in runs_of(self._reading):
            for mode in StorageMode:
                path = names.params_path(run.relpath, run.uid, mode)
                if run.params is not None and not run.removed and path not in seen:
                    steps = [*self._iter_params_of(run, mode, path, run.params.encode())]
                    seen.update([path] if steps else [])
                    yield from steps

    def _iter_params_of(self, run: Run, mode: StorageMode, path: str, text: bytes) -> Iterator[Step]:
        found = self._read_params(path)
        if found == text or (found is None and not self._has_files(run, mode)):
            return
        if found is not None and not durable.is_cut_short(found, text):
            yield (
                Mend("params", path, "set aside what it holds"),
                partial(quarantine_outside, self._root_fd, path),
            )
        yield Mend("params", path, "write it anew"), partial(outputs.put_params, self._root_fd, path, text)

    def _read_params(self, path: str) -> bytes | None:
        try:
            return durable.read_file(path, self._root_fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except StorageError:
            return b"?"  # the quarantine will say why

    def _has_files(self, run: Run, mode: StorageMode) -> bool:
        """True if a recorded file lies where the run's params.json belongs beside it."""
        stem = names.params_path(run.relpath, run.uid, mode).removesuffix(names.PARAMS)
        paths = {
            file.path for attempt in run.attempts for file in attempt.files if file.path.startswith(stem)
        }
        return any(os.path.lexists(self._ledger.root / path) for path in paths)
