"""What lies in a bundle: each member with where its bytes come from and what they must be.

Reads names, manifests and objects; users' files are opened only when they are copied.

Spec: spec/bundle.md section 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from msgspec import Struct

from tracker._disk import durable
from tracker._model import names
from tracker._model.event import Done, Failed, File, Interrupted
from tracker._model.fold import Run, Stamp, run_of
from tracker._model.manifest import encode_manifest, manifest_of
from tracker._model.names import FORMAT, METRICS, STORE, object_path
from tracker._model.removal import removal_of
from tracker._store.measured import OF_METRICS, list_of_run, open_metrics
from tracker._store.root import FORMAT_BYTES
from tracker._store.segments import choose
from tracker.bundle.history import History, Kept, kept_of, longest, read_kept
from tracker.bundle.report import Unfit
from tracker.check.reading import Reading, ended_of
from tracker.errors import NotFoundError, StorageError
from tracker.terms import RunRef, Status, StorageMode

READ_ONLY, PLAIN = 0o444, 0o644
PAGES = ("README.md", "reference.py")

_NAMED_BYTES = 4 << 20
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")

Source = str | Callable[[], bytes]
"""An ordinary path, or who gives the bytes."""


class Member(Struct, frozen=True):
    """One file of a bundle. Size and digest are what it must have; None where nobody said."""

    path: str
    source: Source
    size_bytes: int | None = None
    digest: bytes | None = None
    mode: int = PLAIN


class Contents(Struct):
    """All members under their paths, and what is recorded and cannot be one."""

    members: dict[str, Member] = {}
    external: list[str] = []
    unchecked: list[str] = []
    unfit: list[Unfit] = []
    unfinished: list[RunRef] = []

    def add(self, member: Member) -> None:
        """Take a member; what is there under its path stays."""
        self.members.setdefault(member.path, member)


def contents_of(
    root: Path, store_fd: int, ledger_fd: int, history: History, reading: Reading, chosen: set[RunRef]
) -> Contents:
    """The members of a bundle with this ledger, which `reading` holds, but for pages and description.

    Raises: StorageError. Cost: one look at each manifest and object, 30 µs.
    """
    found = Contents()
    found.add(Member(f"{STORE}/{FORMAT}", lambda: FORMAT_BYTES))
    for kept in history.kept:
        found.add(Member(f"{STORE}/{kept.path}", partial(read_kept, ledger_fd, kept), kept.size_bytes))
    for path, data in history.new.items():
        found.add(Member(f"{STORE}/{path}", partial(_given, data)))
    for path, data in _implied(reading, chosen).items() | history.manifests.items():
        found.add(Member(f"{STORE}/{path}", partial(_given, data)))
    runs = [run_of(ref, reading.state.runs[ref]) for ref in sorted(chosen)]
    _add_metrics(found, store_fd, runs)
    for run in runs:
        _add_params(found, run)
    _add_files(found, root, runs, reading)
    _add_objects(found, root, store_fd, runs, reading, history)
    return found


def _given(data: bytes) -> bytes:
    return data


def _implied(reading: Reading, chosen: set[RunRef]) -> dict[str, bytes]:
    """The manifests that the bundle's ledger implies of chosen runs, made as `rebuild` makes them."""
    return dict(
        encode_manifest(manifest_of(ended)) for ref in sorted(chosen) for ended in ended_of(reading, ref)
    )


def _add_params(found: Contents, run: Run) -> None:
    if run.params is not None:
        mode = StorageMode.PREFIX if run.mode == StorageMode.PREFIX else StorageMode.SUBFOLDER
        path = names.params_path(run.relpath, run.uid, mode)
        text = run.params.encode()
        found.add(Member(path, partial(_given, text), len(text), mode=READ_ONLY))


def _add_metrics(found: Contents, store_fd: int, runs: list[Run]) -> None:
    metrics_fd = open_metrics(store_fd)
    if metrics_fd is None:
        return
    try:
        for run in runs:
            places = choose(list_of_run(metrics_fd, run.ref))[0]
            kept = (kept_of(metrics_fd, place, OF_METRICS) for place in places)
            for one in longest(each for each in kept if each is not None):
                read = partial(_read_metrics, store_fd, one)
                found.add(Member(f"{STORE}/{one.path}", read, one.size_bytes))
    finally:
        durable.close_read(metrics_fd)


def _read_metrics(store_fd: int, kept: Kept) -> bytes:
    metrics_fd = durable.open_folder_fd(METRICS, store_fd)
    try:
        return read_kept(metrics_fd, kept, OF_METRICS)
    finally:
        durable.close_read(metrics_fd)


# Users' files


def _add_files(found: Contents, root: Path, runs: list[Run], reading: Reading) -> None:
    """Of each path the file of its newest seal."""
    newest: dict[str, tuple[Stamp, File]] = {}
    written: set[str] = set()
    for run in runs:
        if any(attempt.status is Status.RUNNING for attempt in run.attempts):
            found.unfinished.append(run.ref)
            written.update(file.path for attempt in run.attempts for file in attempt.files)
            continue
        for stamp, file in _sealed(run, reading):
            if file.path not in newest or newest[file.path][0] < stamp:
                newest[file.path] = stamp, file
    for path, (_, file) in sorted(newest.items()):
        if file.external:
            found.external.append(path)
        elif not _is_below(path):
            found.unfit.append(Unfit(path, "its path leads out of the root"))
        elif path not in written and file.size is not None:
            if file.digest is None:
                found.unchecked.append(path)
            mode = READ_ONLY if path.startswith(f"{STORE}/") else PLAIN
            found.add(Member(path, os.path.join(root, path), file.size, file.digest, mode))


def _sealed(run: Run, reading: Reading) -> Iterator[tuple[Stamp, File]]:
    given_up = removal_of(reading.state.runs[run.ref]).given_up
    for attempt in run.attempts:
        end, stamp = attempt.end, attempt.end_stamp
        if not isinstance(end, (Done, Failed, Interrupted)) or stamp is None:
            continue
        if given_up is None or stamp > given_up:
            yield from ((stamp, file) for file in end.files)


def _is_below(path: str) -> bool:
    parts = path.split("/")
    return "\0" not in path and not any(part in ("", ".", "..") for part in parts)


# Objects


def _needed_by(run: Run, reading: Reading) -> Iterator[str]:
    """Digests of the objects without which a run is not all here: tracebacks and environments."""
    for event in reading.state.runs[run.ref].values():
        if isinstance(event, Failed) and event.traceback is not None:
            yield event.traceback.hex()
    yield from (attempt.environment.hex() for attempt in run.attempts if attempt.environment is not None)


def _named_in(runs: list[Run], history: History) -> Iterator[str]:
    """Digests anywhere in facts and in the manifests that stay: of objects, and of much else."""
    for run in runs:
        for attempt in run.attempts:
            yield from _digests_in(attempt.facts)
    for data in history.manifests.values():
        yield from (match.decode() for match in _DIGEST.findall(data))


def _digests_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if _DIGEST.fullmatch(value.encode(errors="replace")):
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*_digests_in(key), *_digests_in(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _digests_in(inner)


def _add_objects(
    found: Contents, root: Path, store_fd: int, runs: list[Run], reading: Reading, history: History
) -> None:
    """Those that are here of all that are named, and what these name in their turn."""
    needed = {name: run.ref for run in runs for name in _needed_by(run, reading)}
    due, seen = [*needed, *_named_in(runs, history)], set()
    while due:
        name = due.pop()
        if name in seen:
            continue
        seen.add(name)
        path = object_path(name)
        full = f"{STORE}/{path}"
        try:
            size = durable.stat_at(path, store_fd).st_size
        except (FileNotFoundError, NotADirectoryError):
            if name in needed:
                found.unfit.append(Unfit(full, f"{needed[name]} names it, and it is missing"))
            continue
        found.add(Member(full, os.path.join(root, full), None, bytes.fromhex(name), READ_ONLY))
        if size <= _NAMED_BYTES:
            due += (match.decode() for match in _DIGEST.findall(_read(path, store_fd)))


def _read(path: str, store_fd: int) -> bytes:
    try:
        return durable.read_file(path, store_fd)
    except StorageError:
        return b""  # the copy will tell


# Pages


def pages(taken: Iterable[str]) -> tuple[list[Member], str]:
    """The specification and its reader, beside paths that are taken; and the folder that they lie in.

    Raises: NotFoundError where this package came without them.
    """
    folder = free_name("spec", taken)
    source = _folder_of_pages()
    files = sorted(name for name in os.listdir(source) if name.endswith((".md", ".py")))
    return [Member(f"{folder}/{name}", str(source / name)) for name in files], folder


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name, or the first of it with a number that no path begins with. Names of one fold are one."""
    tops = {names.fold_name(path.partition("/")[0]) for path in taken}
    number, free = 0, name
    while names.fold_name(free) in tops:
        number += 1
        free = f"{name}-{number}"
    return free


def _folder_of_pages() -> Path:
    """In a wheel they lie in the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_spec", package.parent / "spec"):
        if all((folder / page).is_file() for page in PAGES):
            return folder
    raise NotFoundError("spec", str(package), "install tracker-store from its wheel or a whole checkout")
