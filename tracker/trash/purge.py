"""gc: what was removed long ago is given up for good, once the ledger says so; and what nobody finishes.

Spec: spec/events.md section 6; spec/layout.md section 9.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct

from tracker._disk import durable, host, moving
from tracker._model.event import Done, Event, Failed, Interrupted, Purged
from tracker._model.fold import History
from tracker._model.names import LEDGER, METRICS, is_temporary, parse_series_name
from tracker._model.removal import Removal, removal_of
from tracker._store import segments, trash
from tracker._store.index import Filter
from tracker._store.measured import OF_METRICS, list_all, open_metrics
from tracker._store.quarantine import QUARANTINE
from tracker._store.trash import TRASH
from tracker.errors import NotFoundError
from tracker.ledger import Ledger
from tracker.packing import drop_members
from tracker.terms import Durability, RunRef

GRACE_S = 14 * 24 * 3600.0
"""How long the files of a removed run are kept, and a file that was never finished."""


class Purge(Struct, frozen=True):
    """The trash of one run: folders below `.tracker`, files below these, and how much they hold.

    `metrics` are files of metrics below `.tracker`: all of a run that is removed.
    """

    ref: RunRef
    removed_ms: int
    folders: list[str]
    files: list[str]
    size_bytes: int
    metrics: list[str] = []


class Collected(Struct, frozen=True):
    """What gc removes, or would. Paths are below `.tracker`."""

    purged: list[Purge]
    temporary: list[str]
    ghosts: list[str]


def plan_gc(ledger: Ledger, *, older_than_s: float = GRACE_S) -> Collected:
    """Say what `gc` would remove. Changes nothing.

    Raises: NotFoundError where there is no store; StorageError. Cost: one listing a removed run.
    """
    if not ledger.lookup.open_store():
        raise NotFoundError("store", str(ledger.root), "the first run makes it")
    with ledger.lock:
        ledger.refresh()
        now_ms = host.now_ms()
        store_fd = ledger.lookup.store_fd
        limit_ms = now_ms - older_than_s * 1000 if older_than_s > 0 else math.inf  # clocks may be ahead
        purged = [*_iter_purges(ledger, limit_ms)]
        temporary = [*_iter_temporary(store_fd, now_ms / 1000 - GRACE_S)]
        hidden = segments.choose(ledger.lookup.files())[1]
        loose = [place for place in hidden if segments.is_loose(ledger.lookup.ledger_fd, place)]
        ghosts = [f"{LEDGER}/{place.path}" for place in loose]
        return Collected(purged, sorted(temporary), ghosts)


def gc(ledger: Ledger, *, older_than_s: float = GRACE_S) -> Collected:
    """Empty the trash of runs removed more than `older_than_s` ago, and drop files that nobody finishes.

    The commit point is the `purged` event: before it every byte is there; after it the files are given up,
    and those that a crash leaves go by the next call, which need not record them again. A run that came back
    between the plan and the commit keeps its files.

    Raises: NotFoundError; StorageError.
    """
    with ledger.lock:
        plan = plan_gc(ledger, older_than_s=older_than_s)
        _record(ledger, plan.purged)
        store_fd = ledger.lookup.store_fd
        ledger.refresh()
        done = [purge for purge in plan.purged if _is_still_due(ledger, purge)]
        for purge in done:
            _delete(store_fd, purge)
        drop_members(ledger, [path for purge in done for path in purge.metrics])
        for path in plan.temporary:
            durable.unlink_if_there(path, store_fd)
        segments.unlink_ghosts(ledger.lookup.ledger_fd, ledger.lookup.files())
        ghosts = [path for path in plan.ghosts if not durable.exists(path, store_fd)]
        return Collected(done, plan.temporary, ghosts)


def _iter_purges(ledger: Ledger, limit_ms: float) -> Iterator[Purge]:
    folders: dict[RunRef, list[str]] = {}
    for folder in trash.iter_trash(ledger.lookup.store_fd):
        ref = run_of_trash(ledger, folder)
        if ref is not None:
            folders.setdefault(ref, []).append(folder)
    metrics = _metrics_of_removed(ledger)
    for ref in dict.fromkeys([*folders, *metrics]):
        removal = removal_of(_history(ledger, ref))
        given_up = [folder for folder in folders.get(ref, []) if _is_given_up(folder, removal)]
        logged = metrics.get(ref, []) if removal.is_removed else []
        if (given_up or logged) and removal.removed_ms < limit_ms:
            yield _purge_of(ledger.lookup.store_fd, ref, removal, given_up, logged)


def _metrics_of_removed(ledger: Ledger) -> dict[RunRef, list[str]]:
    """The files of metrics of each removed run that has some, below `.tracker`. Cost: one listing of all."""
    metrics_fd = open_metrics(ledger.lookup.store_fd)
    if metrics_fd is None:
        return {}
    try:
        files = list_all(metrics_fd)
    finally:
        durable.close_read(metrics_fd)
    refs = {(run.uid, trash.ref16_of(run.ref)): run.ref for run in ledger.lookup.find(Filter(removed=True))}
    found: dict[RunRef, list[str]] = {}
    for file in files:
        parsed = parse_series_name(file.month, file.file)
        ref = None if parsed is None else refs.get((parsed[0].uid, parsed[0].ref16))
        if ref is not None:
            found.setdefault(ref, []).append(f"{METRICS}/{file.path}")
    return found


def _is_given_up(folder: str, removal: Removal) -> bool:
    """False for the trash of a run that is being brought back."""
    name = trash.parse_trash_folder(folder)
    return removal.is_removed or removal.is_anew or (name is not None and name.number > 0)


def run_of_trash(ledger: Ledger, folder: str) -> RunRef | None:
    """The recorded run whose trash a folder is; None if none here is."""
    name = trash.parse_trash_folder(folder)
    if name is None:
        return None
    runs = ledger.lookup.find(Filter(uid=name.uid, removed=None))
    return next((run.ref for run in runs if trash.ref16_of(run.ref) == name.ref16), None)


def _history(ledger: Ledger, ref: RunRef) -> History:
    found = ledger.lookup.history(ref)
    return {} if found is None else found[0]


def _purge_of(store_fd: int, ref: RunRef, removal: Removal, folders: list[str], metrics: list[str]) -> Purge:
    files = [(folder, path) for folder in folders for path in trash.iter_files(store_fd, folder)]
    size_bytes = sum(durable.stat_at(path, store_fd).st_size for _, path in files)
    size_bytes += _size_of_metrics(store_fd, metrics)
    below = [path.removeprefix(f"{folder}/") for folder, path in files]
    return Purge(ref, removal.removed_ms, folders, below, size_bytes, metrics)


def _size_of_metrics(store_fd: int, paths: list[str]) -> int:
    """How many bytes they are, loose or in packs."""
    metrics_fd = open_metrics(store_fd) if paths else None
    if metrics_fd is None:
        return 0
    try:
        below = (path.removeprefix(f"{METRICS}/") for path in paths)
        stamps = [segments.stat_segment(metrics_fd, path, OF_METRICS) for path in below]
    finally:
        durable.close_read(metrics_fd)
    return sum(stamp.size_bytes for stamp in stamps if stamp is not None)


def _iter_temporary(store_fd: int, before_s: float, folder: str = "") -> Iterator[str]:
    """Files of the store that were never finished. Trash and quarantine are not looked at."""
    files = set(durable.list_files(folder, store_fd))
    for name in durable.list_names(folder, store_fd):
        path = f"{folder}/{name}" if folder else name
        if name in files:
            if is_temporary(name) and durable.stat_at(path, store_fd).st_mtime < before_s:
                yield path
        elif path not in (TRASH, QUARANTINE):
            yield from _iter_temporary(store_fd, before_s, path)


def _record(ledger: Ledger, purges: list[Purge]) -> None:
    """The commit point: what is given up is said, with its digests, before a byte of it goes."""
    events = [event for purge in purges if (event := _event_of(ledger, purge)) is not None]
    if events:
        ledger.append(lambda _: [*events])
        ledger.commit(Durability.FULL)


def _event_of(ledger: Ledger, purge: Purge) -> Event | None:
    """What is to be recorded; None where a purge that a crash cut off is gone on with."""
    history = _history(ledger, purge.ref)
    digests = _digests(history)
    wanted = sorted({digests.get(path, b"") for path in purge.files})
    removal = removal_of(history)
    removed = removal.removed
    said = {
        digest or b""
        for stamp, event in history.items()
        if isinstance(event, Purged) and removed is not None and stamp > removed
        for digest in event.digests
    }
    if said.issuperset(wanted) and (purge.folders or removal.purged is not None):
        return None
    return Purged(purge.ref, [digest or None for digest in wanted])


def _digests(history: History) -> dict[str, bytes]:
    """Path to digest, by the newest seal of each."""
    newest: dict[str, bytes] = {}
    for stamp in sorted(history):
        event = history[stamp]
        if isinstance(event, (Done, Failed, Interrupted)):
            newest.update((file.path, file.digest) for file in event.files if file.digest is not None)
    return newest


def _is_still_due(ledger: Ledger, purge: Purge) -> bool:
    """False for a run that another process brought back since the plan was made."""
    removal = removal_of(_history(ledger, purge.ref))
    if purge.metrics and not removal.is_removed:
        return False
    return all(_is_given_up(folder, removal) for folder in purge.folders)


def _delete(store_fd: int, purge: Purge) -> None:
    for path in purge.metrics:
        durable.unlink_if_there(path, store_fd)
    for folder in purge.folders:
        for path in trash.iter_files(store_fd, folder):
            durable.unlink_if_there(path, store_fd)
        for path in trash.iter_folders(store_fd, folder):
            moving.remove_if_empty(path, store_fd)
        moving.remove_if_empty(folder.rpartition("/")[0], store_fd)
