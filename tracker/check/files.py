"""What lies on disk, held against what the ledger says of it: objects, manifests, params.json, users' files.

Spec: spec/layout.md sections 2 to 4; spec/events.md section 3, rule 4; spec/recovery.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tracker._codec.canonical import parse
from tracker._codec.frame import file_hash
from tracker._disk import durable
from tracker._disk.hashing import hash_file
from tracker._model import names
from tracker._model.event import Captured, Done, Failed, File, Interrupted
from tracker._model.fold import History, Run, Stamp, run_of
from tracker._model.names import STORE
from tracker._model.removal import Removal, removal_of
from tracker._store import manifests, objects
from tracker.check.findings import CURE_REBUILD, CURE_REPAIR, Finding, Progress, damage, incomplete, note
from tracker.check.reading import Reading, implied_manifests
from tracker.check.set_aside import Trashed
from tracker.errors import StorageError, TrackerError
from tracker.terms import RunRef, Status, StorageMode

_RUN_FOLDER = re.compile(r"[0-9a-f]{32}")
_PREFIXED_PARAMS = re.compile(rf"([0-9a-f]{{32}})_{re.escape(names.PARAMS)}")


def iter_objects(store_fd: int, reading: Reading, *, full: bool) -> Iterator[Finding]:
    """Objects that events name and that are not here; with `full`, those with other bytes.

    Cost: with `full` one read of each object, once, however many runs saved it.
    """
    there = set(objects.iter_objects(store_fd))
    parts = _PartsOfCode(store_fd, there)
    for ref, history in reading.state.runs.items():
        for path, what in _named_objects(history, parts):
            if path not in there:
                why = f"{what} of {ref} is not here"
                yield incomplete("object-missing", f"{STORE}/{path}", why, "copy the tree again")
    for path in sorted(there) if full else []:
        if not _is_sound(path, store_fd):
            what = "its bytes are not those its name says"
            cure = f"{CURE_REPAIR}, which sets it aside, and copy the tree again"
            yield damage("object-damaged", f"{STORE}/{path}", what, cure)


class _PartsOfCode:
    """The objects that a code object names, each read once. Spec: spec/provenance.md section 4."""

    def __init__(self, store_fd: int, there: set[str]) -> None:
        self._store_fd = store_fd
        self._there = there
        self._known: dict[str, list[tuple[str, str]]] = {}

    def of(self, path: str) -> list[tuple[str, str]]:
        """Paths, and what each is; none of a code object that is not here, or says something else."""
        if path not in self._known:
            self._known[path] = [*self._read(path)] if path in self._there else []
        return self._known[path]

    def _read(self, path: str) -> Iterator[tuple[str, str]]:
        name = names.parse_object_path(path)
        assert name is not None, "it is the path of an object"
        try:
            code = parse(objects.get_object(self._store_fd, name))
        except (TrackerError, OSError):  # what is damaged is told by a full check
            return
        if isinstance(code.get("diff"), str):
            yield names.object_path(code["diff"]), "the diff"
        for file in code.get("untracked") or []:
            if isinstance(file, list) and len(file) > 3 and isinstance(file[3], str):
                yield names.object_path(file[3]), f"the source {file[0]!r}"


def _named_objects(history: History, parts: _PartsOfCode) -> Iterator[tuple[str, str]]:
    """Paths of objects that a run needs, and what each is to it."""
    for event in history.values():
        if isinstance(event, Captured):
            for path, what in _objects_of_facts(event.facts):
                yield path, what
                yield from parts.of(path) if what == "the code" else ()
        if not isinstance(event, (Done, Failed, Interrupted)):
            continue
        if isinstance(event, Failed) and event.traceback is not None:
            yield names.object_path(event.traceback.hex()), "the traceback"
        for file in event.files:
            if _is_object(file):
                yield file.path.removeprefix(f"{STORE}/"), f"file {file.name!r}"


def _objects_of_facts(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The objects that facts name; what those name is theirs to say. Spec: spec/provenance.md section 2."""
    for fact in ("environment", "code", "argv", "variables"):
        digest = facts.get(fact)
        path = names.object_path(digest) if isinstance(digest, str) else ""
        if names.parse_object_path(path) is not None:
            yield path, f"the {fact}"


def _is_object(file: File) -> bool:
    """True for a file that was saved: it lies among the objects, and its name is its digest."""
    inner = file.path.removeprefix(f"{STORE}/")
    return not file.external and inner != file.path and names.parse_object_path(inner) is not None


def _is_sound(path: str, store_fd: int) -> bool:
    try:
        return objects.is_sound(store_fd, path)
    except StorageError:
        return False


def iter_manifests(store_fd: int, reading: Reading) -> Iterator[Finding]:
    """Manifests whose bytes are not what their names say. They count as absent."""
    for path in manifests.iter_manifests(store_fd):
        name = names.parse_manifest_path(path)
        try:
            data = manifests.read_bytes(store_fd, path)
        except StorageError as error:
            yield damage("unreadable", f"{STORE}/{path}", str(error), CURE_REBUILD)
            continue
        if name is not None and data is not None and file_hash(data) != name.hash16:
            is_cut = durable.is_cut_short(data, implied_manifests(reading, name.uid).get(path, b""))
            kind = incomplete if is_cut else damage
            what = "a crash cut it short" if is_cut else "its bytes are not those its name says"
            yield kind("manifest-damaged", f"{STORE}/{path}", what, CURE_REPAIR)


def iter_unrecorded(root: Path, reading: Reading) -> Iterator[Finding]:
    """Run folders and params files of which no event speaks: a run that was killed before its first event.

    Folders of runs are not entered. Cost: one listing for each namespace's folder.
    """
    known = {(run.relpath, run.uid) for run in map(names.split_ref, reading.state.runs)}
    for above, folders, files in os.walk(root):
        relpath = "" if above == str(root) else os.path.relpath(above, root).replace(os.sep, "/")
        found = [name for name in folders if _RUN_FOLDER.fullmatch(name)]
        found += [match[1] for name in files if (match := _PREFIXED_PARAMS.fullmatch(name))]
        inner = [f for f in folders if f not in found and not os.path.exists(os.path.join(above, f, STORE))]
        folders[:] = [name for name in sorted(inner) if name != STORE]
        for uid in sorted(found):
            if (relpath, uid) not in known:
                path = f"{relpath}/{uid}" if relpath else uid
                what = (
                    "no event speaks of these files: killed before its first event, or a segment is not here"
                )
                yield incomplete("unrecorded", path, what, "run it again, or copy the tree again")


def iter_params(root_fd: int, runs: list[Run], progress: Progress) -> Iterator[Finding]:
    """`params.json` that does not hold the recorded text. One that is not there was never asked for."""
    seen: set[str] = set()
    for done, run in enumerate(runs):
        progress("params", done, len(runs))
        if run.params is None:
            continue
        for mode in StorageMode:
            path = names.params_path(run.relpath, run.uid, mode)
            if path in seen:
                continue
            seen.add(path)
            yield from _judge_params(root_fd, path, run.params.encode())


def _judge_params(root_fd: int, path: str, text: bytes) -> Iterator[Finding]:
    try:
        data = durable.read_file(path, root_fd)
    except FileNotFoundError:
        return
    except StorageError as error:
        yield damage("unreadable", path, str(error))
        return
    if data == text:
        return
    if durable.is_cut_short(data, text):
        yield incomplete("params-cut", path, "a crash cut it short", CURE_REPAIR)
        return
    yield damage("params-altered", path, "it does not hold the params its folder is named by", CURE_REPAIR)


def iter_sealed(
    root: Path, reading: Reading, runs: list[Run], trashed: Trashed, progress: Progress
) -> Iterator[Finding]:
    """Files that are not as the newest seal of their path says. Older seals are superseded, not violated.

    Files of a run that is being executed now are left alone; those of a removed one are looked for in the
    trash too; what was purged, or left behind by a start anew, is not looked for. Saved files are objects,
    which `iter_objects` reads.
    Cost: one read and one BLAKE3 pass over every sealed file; no cache is asked.
    """
    newest = _newest_seals(runs, {run.ref: removal_of(reading.state.runs[run.ref]) for run in runs})
    total = sum(seal.file.size or 0 for seal in newest.values())
    done = 0
    for path in sorted(newest):
        seal = newest[path]
        yield from _judge_file(root, seal, trashed)
        done += seal.file.size or 0
        progress("sealed files", done, total)


class _Seal(NamedTuple):
    stamp: Stamp
    file: File
    run: Run


def _newest_seals(runs: list[Run], removals: dict[RunRef, Removal]) -> dict[str, _Seal]:
    newest: dict[str, _Seal] = {}
    busy: set[str] = set()
    for run in runs:
        given_up = removals[run.ref].given_up
        for attempt in run.attempts:
            end, stamp = attempt.end, attempt.end_stamp
            if attempt.status is Status.RUNNING:
                busy.add(run.ref)
            if not isinstance(end, (Done, Failed, Interrupted)) or stamp is None:
                continue
            if given_up is not None and stamp < given_up:
                continue
            for file in end.files:
                if file.path not in newest or newest[file.path].stamp < stamp:
                    newest[file.path] = _Seal(stamp, file, run)
    being_written = {f.path for run in runs if run.ref in busy for a in run.attempts for f in a.files}
    return {
        path: seal
        for path, seal in newest.items()
        if path not in being_written and seal.file.size is not None and not _is_object(seal.file)
    }


def _judge_file(root: Path, seal: _Seal, trashed: Trashed) -> Iterator[Finding]:
    file, run = seal.file, seal.run
    in_trash = trashed.place_of(run.ref, file.path)
    if in_trash is None or (not run.removed and os.path.lexists(root / file.path)):
        yield from _judge_bytes(root, file.path, file)
        return
    if not run.removed:
        what = f"its run {run.ref} was restored, and it is in the trash still"
        yield incomplete("in-trash", file.path, what, "run `tracker restore` of the run again")
    yield from _judge_bytes(root, in_trash, file)


def _judge_bytes(root: Path, path: str, file: File) -> Iterator[Finding]:
    try:
        size, found = hash_file(os.path.join(root, path))
    except FileNotFoundError:
        if file.external:
            yield note("external-missing", path, "an external file is not on this machine")
        else:
            what = "sealed, and not here"
            yield incomplete(
                "file-missing", path, what, "copy the tree again, or run it again if it was removed"
            )
        return
    except OSError as error:
        yield damage("unreadable", path, f"{error.strerror or error}", "give this user the right to it")
        return
    except ValueError:  # a NUL in it
        yield damage("unreadable", path, "no file can have this path", "the event that names it is forged")
        return
    if size != file.size or (file.digest is not None and found != file.digest):
        what = f"{size} bytes of BLAKE3 {found.hex()[:16]}…, sealed as {file.size} bytes"
        if file.digest is not None:
            what += f" of {file.digest.hex()[:16]}…"
        yield damage("file-altered", path, what, "copy it from another copy of the tree, or run it again")


def runs_of(reading: Reading) -> list[Run]:
    """All runs, in the order of their first events."""
    runs = [run_of(ref, history) for ref, history in reading.state.runs.items()]
    return sorted(runs, key=lambda run: run.first)
