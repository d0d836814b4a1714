"""remove and restore: a run with its history taken out of sight, its files moved, and both brought back.

The event comes first and is committed, then the files move; whoever finds an event without its moves makes
them.

Spec: spec/events.md section 6; spec/layout.md section 9.
"""

from __future__ import annotations

import errno
import os
import stat

from msgspec import Struct

from tracker._disk import durable, moving
from tracker._disk.hashing import hash_file
from tracker._disk.moving import Move
from tracker._model.event import Event, Removed, Restored
from tracker._model.fold import Run
from tracker._model.names import STORE, folder_of
from tracker._model.removal import Removal, removal_of
from tracker._store import trash
from tracker._store.index import Filter
from tracker._store.trash import iter_files, trash_folder
from tracker.claiming import Rival
from tracker.errors import NotFoundError, StateError, StorageError
from tracker.ledger import Ledger
from tracker.liveness import is_live
from tracker.terms import Durability, RunRef, StorageMode
from tracker.trash.belongings import belongings_of

_SHOWN = 5


class Moved(Struct, frozen=True):
    """What a removal or its undoing did. Paths are below the root; `kept` are recorded by others too."""

    ref: RunRef
    files: list[str]
    kept: list[str]
    is_recorded: bool
    """False where the event was there already, and only its moves were to be completed."""


class _Plan(Struct, frozen=True):
    moves: list[Move]
    twins: list[str]
    """Sources whose bytes the target holds already: they need only go."""
    taken: list[str]
    """Targets that hold something else."""


def remove(ledger: Ledger, ref: RunRef, reason: str = "") -> Moved:
    """Record that a run is removed and move its files to the trash. `restore` undoes it.

    Crash states: before the commit nothing; after it the run is removed, some of its files in place still.
    To remove it again moves those, and records nothing.

    Raises: NotFoundError; StateError for a run that a process executes, or where the trash holds another file
    of a path; StorageError. Before the event is written nothing is changed.
    Cost: 15 µs for each run of the store, to know what others recorded; 60 µs a file.
    """
    with ledger.lock:
        run, before = _known(ledger, ref)
        held = ledger.opened(ref)
        rival = None if held.is_running else ledger.take_claim(ref, held, unless_done=False)
        if held.is_running or isinstance(rival, Rival) or is_live(ledger, run):
            ledger.release_unused(held)
            raise StateError(
                ref, str(run.status), "a process executes it", "end it first: done(), error(), or stop it"
            )
        try:
            return _remove(ledger, run, before, reason)
        finally:
            ledger.release_unused(held)


def _remove(ledger: Ledger, run: Run, before: Removal, reason: str) -> Moved:
    """Do it: the run is claimed, so nobody starts it meanwhile."""
    ref, root_fd = run.ref, ledger.root_fd()
    others = [other for other in ledger.find(Filter()) if other.ref != ref]
    mine = belongings_of(root_fd, run, others)
    _refuse_other_disks(root_fd, mine.files, str(ledger.root))
    if not before.is_removed:
        _set_earlier_aside(root_fd, ref, before)
    folder = f"{STORE}/{trash_folder(ref)}"
    plan = _plan(ledger, root_fd, [(path, f"{folder}/{path}") for path in mine.files])
    if plan.taken:
        raise StateError(
            ref, "removed", f"the trash holds another {_shown(plan.taken)}", "move one of them away"
        )
    if not before.is_removed:
        _record(ledger, Removed(ref, reason))
    _forget(ledger, ref)
    _carry_out(root_fd, plan)
    if mine.is_alone:
        _drop_empty(root_fd, folder_of(run.relpath, run.uid, StorageMode.SUBFOLDER))
    return Moved(ref, mine.files, mine.kept, is_recorded=not before.is_removed)


def restore(ledger: Ledger, ref: RunRef, reason: str = "") -> Moved:
    """Record that a removed run is back and move its files to where they were. Overwrites nothing.

    Crash states: before the commit nothing; after it the run is back, some of its files in the trash still.
    To restore it again moves those, and records nothing.

    Raises: NotFoundError; StateError for a run that is not removed, one whose files were purged, and where a
    path is taken again; StorageError. Before the event is written nothing is changed.
    """
    with ledger.lock:
        run, before = _known(ledger, ref)
        root_fd = ledger.root_fd()
        folder = f"{STORE}/{trash_folder(ref)}"
        files = [path.removeprefix(f"{folder}/") for path in iter_files(root_fd, folder)]
        _refuse_restore(run, before, has_files=bool(files))
        plan = _plan(ledger, root_fd, [(f"{folder}/{path}", path) for path in files])
        if plan.taken:
            raise StateError(ref, "removed", f"{_shown(plan.taken)} is taken again", "move it away")
        if before.is_removed:
            _record(ledger, Restored(ref, reason))
        _forget(ledger, ref)
        _carry_out(root_fd, plan)
        _drop_empty(root_fd, folder)
        moving.remove_if_empty(folder.rpartition("/")[0], root_fd)
        return Moved(ref, files, [], is_recorded=before.is_removed)


def _known(ledger: Ledger, ref: RunRef) -> tuple[Run, Removal]:
    ledger.refresh()
    run, history = ledger.lookup.run(ref), ledger.lookup.history(ref)
    if run is None or history is None:
        raise NotFoundError(f"run {ref!r}", str(ledger.root), "`tracker ls` shows the runs")
    return run, removal_of(history[0])


def _refuse_restore(run: Run, before: Removal, *, has_files: bool) -> None:
    if before.is_removed and before.purged is not None:
        raise StateError(run.ref, "removed", "its files were purged", "run it anew")
    is_cut_off = has_files and before.restored is not None and not before.is_anew
    if not before.is_removed and not is_cut_off:
        raise StateError(
            run.ref, str(run.status), "it is not removed", "`tracker ls --removed` shows those that are"
        )


def _refuse_other_disks(root_fd: int, files: list[str], root: str) -> None:
    """A file is moved by its name alone. Raises: StorageError, before anything is changed."""
    disk = durable.stat_at(STORE, root_fd).st_dev
    for path in files:
        if durable.stat_at(path, root_fd).st_dev != disk:
            raise StorageError(
                errno.EXDEV, os.path.join(root, path), "remove",
                "it lies on another file system than .tracker", "move it away by hand, then remove the run",
            )  # fmt: skip


def _set_earlier_aside(root_fd: int, ref: RunRef, before: Removal) -> None:
    """What a run that was started anew left in the trash makes room for what is removed now.

    Crash states: one folder's name or the other; it is the trash of no present removal under both.
    """
    store_fd = durable.open_folder_fd(STORE, root_fd)
    try:
        if before.is_anew and trash.is_folder(trash_folder(ref), store_fd):
            moving.move_folder(trash_folder(ref), trash.free_folder(store_fd, ref), store_fd)
    finally:
        durable.close_read(store_fd)


def _plan(ledger: Ledger, root_fd: int, moves: list[Move]) -> _Plan:
    """Which files to move. One whose bytes are at its target already, as after a copy, needs only go."""
    free: list[Move] = []
    twins: list[str] = []
    taken: list[str] = []
    for source, target in moves:
        if not _exists(target, root_fd) or moving.is_same_file(source, target, root_fd):
            free.append((source, target))
        elif (are_equal := _are_equal(ledger, root_fd, source, target)) is None:
            continue  # another process does the same, and was faster
        elif are_equal:
            twins.append(source)
        else:
            taken.append(target)
    return _Plan(free, twins, taken)


def _exists(path: str, root_fd: int) -> bool:
    try:
        return durable.exists(path, root_fd)
    except NotADirectoryError:  # a file stands where its folder was: the move will say so
        return True


def _are_equal(ledger: Ledger, root_fd: int, one: str, other: str) -> bool | None:
    """Whether two files have the same bytes; None if one of them has gone meanwhile."""
    try:
        found = [durable.stat_at(path, root_fd) for path in (one, other)]
        if not all(stat.S_ISREG(status.st_mode) for status in found) or found[0].st_size != found[1].st_size:
            return False
        return hash_file(str(ledger.root / one)) == hash_file(str(ledger.root / other))
    except FileNotFoundError:
        return None


def _shown(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more


def _record(ledger: Ledger, event: Event) -> None:
    """The commit point: from here on the run is removed, or back, whatever happens to its files."""
    ledger.append(lambda _: [event])
    ledger.commit(Durability.FULL)


def _forget(ledger: Ledger, ref: RunRef) -> None:
    """Sessions of this process hold no attempt, paths or folder of the run any more."""
    held = ledger.opened(ref)
    held.attempt = held.started = None
    held.handed, held.attached = {}, {}
    held.has_folder = False


def _carry_out(root_fd: int, plan: _Plan) -> None:
    moving.move_all(plan.moves, root_fd)
    for source in plan.twins:
        durable.unlink_if_there(source, root_fd)


def _drop_empty(root_fd: int, folder: str) -> None:
    """Remove a folder and those in it as far as they are empty."""
    for path in trash.iter_folders(root_fd, folder):
        moving.remove_if_empty(path, root_fd)
