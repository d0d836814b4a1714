"""Which files belong to a run: what it recorded, what bears its name, and what it alone has a folder for.

Reads folders, writes nothing.

Spec: spec/layout.md section 9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from tracker._disk import durable
from tracker._model import names
from tracker._model.fold import Run
from tracker._store import trash
from tracker.terms import StorageMode

_UID_PART = re.compile(r"([0-9a-f]{32})(?:_.*)?", re.DOTALL)


class Belongings(Struct, frozen=True):
    """Paths below the root that are there: those of the run, and those that it recorded and others need."""

    files: list[str]
    kept: list[str]
    is_alone: bool
    """True if no other run that is not removed shares its uid here, and so its folder."""


def belongings_of(root_fd: int, run: Run, others: list[Run]) -> Belongings:
    """The files of `run`, where `others` are the runs of the store that are not removed.

    A file that another run recorded, or that lies where another run's files do, is not the run's to give.

    Cost: one look at each file of the run, 1 µs for each file that others recorded.
    """
    siblings = [other for other in others if (other.relpath, other.uid) == (run.relpath, run.uid)]
    found = set(_iter_recorded(root_fd, run)) | set(_iter_named(root_fd, run, siblings))
    recorded = _recorded_by(others)
    places = {(other.relpath, other.uid) for other in others} - {(run.relpath, run.uid)}
    shared = {names.params_path(run.relpath, run.uid, mode) for mode in StorageMode} if siblings else set()
    kept = {
        path
        for path in found
        if path in recorded or path in shared or not places.isdisjoint(_places_of(path))
    }
    return Belongings(sorted(found - kept), sorted(kept - shared), is_alone=not siblings)


def recorded_paths(run: Run) -> set[str]:
    """The paths below the root that attempts of the run sealed or attached. Odd ones lead nowhere."""
    paths = {file.path for attempt in run.attempts for file in attempt.files if not file.external}
    return {path for path in paths if _is_plain(path)}


def _recorded_by(runs: Iterable[Run]) -> set[str]:
    return {file.path for run in runs for attempt in run.attempts for file in attempt.files}


def _is_plain(path: str) -> bool:
    """True for a path that stays below the root and out of its store."""
    parts = path.split("/")
    return not {"", ".", ".."} & set(parts) and "\0" not in path and parts[0] != names.STORE


def _iter_recorded(root_fd: int, run: Run) -> Iterator[str]:
    for path in recorded_paths(run):
        if trash.is_folder(path, root_fd):
            yield from trash.iter_files(root_fd, path)
        elif _is_there(path, root_fd):
            yield path


def _is_there(path: str, root_fd: int) -> bool:
    try:
        return durable.exists(path, root_fd)
    except NotADirectoryError:
        return False


def _iter_named(root_fd: int, run: Run, siblings: list[Run]) -> Iterator[str]:
    """Files under the run's naming, recorded or not; all that bears its uid if it is alone with it."""
    for mode in modes_of(run):
        start = f"{run.uid}_" if mode is StorageMode.PREFIX else ""
        for path in _iter_places(root_fd, run, mode):
            last = path.rpartition("/")[2]
            if last.startswith(start) and _is_named_for(last.removeprefix(start), run, siblings):
                yield path


def modes_of(run: Run) -> set[StorageMode]:
    """The storage modes under which the run may have files."""
    recorded = {run.mode, *(attempt.mode for attempt in run.attempts)}
    return {mode for mode in StorageMode if mode.value in recorded}


def _iter_places(root_fd: int, run: Run, mode: StorageMode) -> Iterator[str]:
    """What lies where the run's files may lie: its folder, or beside its namespace's and recorded files."""
    folder = names.folder_of(run.relpath, run.uid, mode)
    if mode is StorageMode.SUBFOLDER:
        yield from trash.iter_files(root_fd, folder)
        return
    for beside in {folder, *(path.rpartition("/")[0] for path in recorded_paths(run))}:
        for name in durable.list_names(beside, root_fd):
            path = f"{beside}/{name}" if beside else name
            if name.startswith(f"{run.uid}_") and not trash.is_folder(path, root_fd):
                yield path


def _is_named_for(last: str, run: Run, siblings: list[Run]) -> bool:
    """Of identifiers that a name begins with the longest is its own: `train_big_x` is not of `train`."""
    theirs = max((len(s.identifier) for s in siblings if last.startswith(f"{s.identifier}_")), default=0)
    if last.startswith(f"{run.identifier}_"):
        return len(run.identifier) > theirs
    return not siblings


def _places_of(path: str) -> Iterator[tuple[str, str]]:
    """Namespace and uid of the runs in whose folder, or under whose prefix, a path lies."""
    parts = path.split("/")
    for depth, part in enumerate(parts):
        match = _UID_PART.fullmatch(part)
        if match:
            yield "/".join(parts[:depth]), match[1]
