"""What both histories together say of users' files: what a path ought to hold, and whose some bytes are.

Spec: spec/merge.md section 6; spec/events.md section 3, rule 4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct, field

from tracker._codec.digest import digest
from tracker._model.event import Done, Failed, File, Interrupted, Purged
from tracker._model.fold import History, Run, Stamp, join, run_of
from tracker._model.names import PARAMS, params_path
from tracker._model.removal import removal_of
from tracker.check.reading import Reading
from tracker.merge.plan import Facts, Wanted
from tracker.terms import AttemptId, RunRef, Status, StorageMode, WriterId

_PARAMS_PATH = re.compile(rf"(?:.*/)?([0-9a-f]{{32}})[/_]{re.escape(PARAMS)}")
_UNPORTABLE = re.compile(r"[^0-9A-Za-z.-]+")
_HOST_CHARS = 40


class Seals(Struct):
    """The seals of all paths. `newest` is left out where the run is being executed."""

    newest: dict[str, tuple[Stamp, File]] = field(default_factory=dict)
    authors: dict[tuple[str, bytes], tuple[Stamp, AttemptId]] = field(default_factory=dict)
    hosts: dict[WriterId, str] = field(default_factory=dict)
    params: set[tuple[str, str]] = field(default_factory=set)
    """Namespace and uid of the runs whose params are known."""
    removed: dict[str, RunRef] = field(default_factory=dict)
    """Paths that only removed runs recorded."""
    purged: dict[str, set[bytes]] = field(default_factory=dict)
    """Digests of bytes that were given up for good, under the paths where they were sealed."""

    def wanted(self, path: str) -> Wanted | None:
        """What the file at `path` ought to be; None where nothing says so."""
        match = _PARAMS_PATH.fullmatch(path)
        if match and (_namespace(path), match[1]) in self.params:
            return Wanted(uid=match[1])
        _, file = self.newest.get(path, (None, None))
        return None if file is None else Wanted(file.size, file.digest)

    def is_sealed(self, path: str, facts: Facts) -> bool:
        """True if some attempt, not only the last, sealed these bytes under this path."""
        return (path, facts.digest) in self.authors

    def whose(self, path: str, facts: Facts) -> str:
        """`<host>-<8 digits of the writer>` of the last attempt that sealed these bytes, or `unknown`."""
        _, attempt = self.authors.get((path, facts.digest), (None, None))
        if attempt is None:
            return "unknown"
        writer = WriterId(attempt.rpartition("-")[0])
        host = _UNPORTABLE.sub("-", self.hosts.get(writer, "")).strip("-.")[:_HOST_CHARS]
        return f"{host or 'unknown'}-{writer[:8]}"


def _namespace(path: str) -> str:
    """The folder in which a run of this `params.json` lies: that of its folder, or of its prefix."""
    folder, _, last = path.rpartition("/")
    return folder.rpartition("/")[0] if last == PARAMS else folder


def seals_of(readings: Iterable[Reading]) -> Seals:
    """The seals of the union of some histories. Cost: 5 µs an event."""
    found = Seals()
    histories: dict[RunRef, History] = {}
    for reading in readings:
        found.hosts.update((writer, opened.host) for writer, opened in reading.opened.items())
        for ref, history in reading.state.runs.items():
            histories[ref] = join(histories.get(ref, {}), history)
    busy: set[str] = set()
    living: set[str] = set()
    for ref, history in histories.items():
        run, removal = run_of(ref, history), removal_of(history)
        _add_seals(found, history, removal.given_up)
        _add_params(found, run, is_purged=removal.is_removed and removal.purged is not None)
        if removal.is_removed:
            found.removed.update(dict.fromkeys(_paths_of(run), ref))
        else:
            living |= _paths_of(run)
        busy |= _being_written(run)
    for path in busy & found.newest.keys():
        del found.newest[path]
    for path in living & found.removed.keys():
        del found.removed[path]
    return found


def _add_params(found: Seals, run: Run, *, is_purged: bool) -> None:
    """What the `params.json` of a run holds; that of a purged one does not come back."""
    if run.params is None:
        return
    if not is_purged:
        found.params.add((run.relpath, run.uid))
        return
    given_up = bytes.fromhex(digest(run.params.encode()))
    for mode in StorageMode:
        found.purged.setdefault(params_path(run.relpath, run.uid, mode), set()).add(given_up)


def _add_seals(found: Seals, history: History, given_up: Stamp | None) -> None:
    """Every seal of a run's history, of ends that another end superseded too.

    What was sealed up to `given_up` is looked for no more, and its bytes that a purge names do not come back.
    """
    purged = {one for event in history.values() if isinstance(event, Purged) for one in event.digests}
    for stamp, event in history.items():
        if not isinstance(event, (Done, Failed, Interrupted)):
            continue
        is_given_up = given_up is not None and stamp <= given_up
        for file in event.files:
            if file.external or file.size is None:
                continue
            newest = found.newest.get(file.path)
            if not is_given_up and (newest is None or newest[0] < stamp):
                found.newest[file.path] = (stamp, file)
            if file.digest is not None:
                author = found.authors.get((file.path, file.digest))
                if author is None or author[0] < stamp:
                    found.authors[file.path, file.digest] = (stamp, event.attempt)
                if is_given_up and file.digest in purged:
                    found.purged.setdefault(file.path, set()).add(file.digest)


def _paths_of(run: Run) -> set[str]:
    """What a run recorded, and its `params.json`."""
    files = {file.path for attempt in run.attempts for file in attempt.files if not file.external}
    return files | {params_path(run.relpath, run.uid, mode) for mode in StorageMode}


def _being_written(run: Run) -> set[str]:
    """The paths of a run of which an attempt is running: older seals do not hold for them."""
    if all(attempt.status is not Status.RUNNING for attempt in run.attempts):
        return set()
    return {file.path for attempt in run.attempts for file in attempt.files}
