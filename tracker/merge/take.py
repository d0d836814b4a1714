"""The store's own files taken into another store: read again, proved again, published.

The order is that of the names: ledger, manifests, objects, so that what refers comes before what it refers
to, and a merge that was cut off leaves a copy that lacks something, never one that is wrong.

Spec: spec/merge.md sections 3, 4, 5 and 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from tracker._codec.digest import digest
from tracker._codec.frame import file_hash
from tracker._disk import cloning, durable
from tracker._model.names import (
    MANIFESTS,
    OBJECTS,
    STORE,
    is_temporary,
    parse_manifest_path,
    parse_object_path,
)
from tracker._store import manifests, objects
from tracker._store.quarantine import QUARANTINE
from tracker.errors import StorageError
from tracker.merge.conflicts import original_name
from tracker.merge.inventory import IN_LEDGER, Piece, Room, Theirs, read_piece
from tracker.merge.plan import Do, Step
from tracker.merge.report import Draft, Kind, Line, Progress

_LONG_BYTES = 1 << 20
"""An object of so many bytes is not held in memory."""

_LOST_MEANWHILE = "it changed while it was read: merge again"


def replace_keeping(store_fd: int, path: str, data: bytes) -> str:
    """Put right bytes under a name that holds damaged ones, which go to quarantine; return where they lie.

    Crash states: the damaged file; then it and a synced copy in quarantine; then the right file, by one
    rename, so that at no moment the name is without what is good in it.

    System calls: read; tmp, write, fsync, rename, fsync folder in quarantine; the same in place.
    Raises: StorageError; the damaged file then stands in its place.
    """
    damaged = durable.read_file(path, store_fd)
    kept = f"{QUARANTINE}/{path}.{file_hash(damaged)}"
    _make_folder_of(store_fd, kept)
    durable.publish(kept, damaged, store_fd)
    durable.replace(path, data, store_fd, sync=True)
    return kept


def _make_folder_of(store_fd: int, path: str) -> None:
    for made in durable.make_folders(path.rpartition("/")[0], store_fd):
        durable.sync_folder(made.rpartition("/")[0], store_fd)


# Ledger, and metrics


def take_ledger(
    steps: list[Step],
    theirs: Theirs,
    source_fd: int,
    store_fd: int | None,
    report: Draft,
    progress: Progress,
    room: Room = IN_LEDGER,
) -> int:
    """Do the steps of a room, or with `report.dry_run` only tell them; return how many were done.

    Raises: StorageError when the target's disk refuses.
    """
    for path in theirs.foreign:
        report.skipped.append(Line(Kind.SEGMENT, _shown(path, room), "no name of the store's"))
    for path, reason in theirs.unreadable:
        report.damaged.append(Line(Kind.SEGMENT, _shown(path, room), f"cannot be read: {reason}"))
    done = 0
    for number, step in enumerate(steps, 1):
        progress(room.name, number, len(steps))
        _tell_damage(step, report, room)
        if step.do is Do.NOTHING:
            report.present += not step.piece.why
        else:
            done += _take_piece(step, source_fd, store_fd, report, room)
    return done


def _shown(path: str, room: Room) -> str:
    return f"{STORE}/{room.name}/{path}"


def _tell_damage(step: Step, report: Draft, room: Room) -> None:
    piece = step.piece
    if not piece.why:
        return
    lone = f"; {piece.lone} later frames are not proved and stay there" if piece.lone else ""
    line = Line(Kind.SEGMENT, _shown(piece.file, room), f"byte {piece.good_bytes}: {piece.why}{lone}")
    is_copy = piece.file != piece.place.path
    (report.skipped if is_copy else report.damaged).append(line)


def _take_piece(step: Step, source_fd: int, store_fd: int | None, report: Draft, room: Room) -> bool:
    piece = step.piece
    target = f"{piece.place.month}/{piece.part}" if step.do is Do.PART else piece.place.path
    path = f"{room.name}/{target}"
    what = _why_taken(step)
    if not report.dry_run:
        assert store_fd is not None, "the store was made"
        data = _proved_again(piece, target, source_fd, room)
        if data is None:
            report.skipped.append(Line(Kind.SEGMENT, _shown(piece.file, room), _LOST_MEANWHILE))
            return False
        if step.do is Do.MEND and durable.exists(path, store_fd):  # else it is damaged in a pack
            what = f"what was here is kept as {STORE}/{replace_keeping(store_fd, path, data)}"
        else:
            _make_folder_of(store_fd, path)
            durable.publish(path, data, store_fd)
    into = {Do.COPY: report.copied, Do.MEND: report.repaired, Do.PART: report.parts}[step.do]
    as_path = "" if piece.file == target else _shown(target, room)
    into.append(Line(Kind.SEGMENT, _shown(piece.file, room), what, as_path))
    return True


def _why_taken(step: Step) -> str:
    if step.do is Do.PART:
        return f"its good prefix, {len(step.piece.marks)} frames"
    return "" if step.piece.file == step.piece.place.path else "a conflict copy, proved by its bytes"


def _proved_again(piece: Piece, target: str, source_fd: int, room: Room) -> bytes | None:
    """The bytes that the target's name is the hash of; None if SRC has them no longer."""
    ledger_fd = durable.open_folder_fd(room.name, source_fd)
    try:
        data = read_piece(ledger_fd, piece.file, piece.place, room.sort)
    finally:
        durable.close_read(ledger_fd)
    if data is None:
        return None
    data = data if piece.is_proven else data[: piece.good_bytes]
    stem = target.rpartition(".")[0]
    return data if stem.endswith(f"-{file_hash(data)}") else None


# Manifests and objects: a name that the bytes prove


def take_named(source_fd: int, store_fd: int | None, report: Draft, progress: Progress) -> int:
    """Take manifests, then objects; return how many were taken. Without a store there is nothing here yet."""
    return sum(
        _take_folder(room, is_right, put, source_fd, store_fd, report, progress)
        for room, is_right, put in (
            (Kind.MANIFEST, _is_manifest, manifests.put_manifest),
            (Kind.OBJECT, _is_object, _put_object),
        )
    )


def _is_manifest(path: str, data: bytes) -> bool:
    name = parse_manifest_path(path)
    return name is not None and file_hash(data) == name.hash16


def _is_object(path: str, data: bytes) -> bool:
    return digest(data) == parse_object_path(path)


def _put_object(store_fd: int, path: str, data: bytes) -> None:
    objects.put_object(store_fd, data)


def _take_folder(
    kind: Kind,
    is_right: Callable[[str, bytes], bool],
    put: Callable[[int, str, bytes], None],
    source_fd: int,
    store_fd: int | None,
    report: Draft,
    progress: Progress,
) -> int:
    room = _ROOMS[kind]
    files = list(_iter_named(room, source_fd))
    if kind is Kind.MANIFEST:
        loose = {path for path, _ in files}
        files += [(path, path) for path in manifests.iter_manifests(source_fd) if path not in loose]
    taken = 0
    seen: set[str] = set()
    for number, (path, name) in enumerate(files, 1):
        progress(room, number, len(files))
        if name is None:
            report.skipped.append(Line(kind, f"{STORE}/{path}", "no name of the store's"))
            continue
        if name not in seen and kind is Kind.OBJECT:
            was_taken = _take_long(path, name, source_fd, store_fd, report)
            if was_taken is not None:
                seen.add(name)
                taken += was_taken
                continue
        data = _read_proved(kind, path, name, is_right, source_fd, report)
        if data is None or name in seen:
            continue
        seen.add(name)
        taken += _take_one(kind, path, name, data, is_right, put, store_fd, report)
    return taken


_ROOMS = {Kind.MANIFEST: MANIFESTS, Kind.OBJECT: OBJECTS}


def _iter_named(room: str, source_fd: int) -> Iterator[tuple[str, str | None]]:
    """The files of a room, each with the name that it has or, as a conflict copy, claims."""
    for folder in sorted(durable.list_names(room, source_fd)):
        for file in sorted(durable.list_files(f"{room}/{folder}", source_fd)):
            if is_temporary(file):
                continue
            path = f"{room}/{folder}/{file}"
            claimed = f"{room}/{folder}/{original_name(file) or file}"
            is_name = parse_manifest_path(claimed) or parse_object_path(claimed)
            yield path, claimed if is_name else None


def _read_proved(
    kind: Kind,
    path: str,
    name: str,
    is_right: Callable[[str, bytes], bool],
    source_fd: int,
    report: Draft,
) -> bytes | None:
    """The bytes of a file of SRC if they are what its name says."""
    try:
        data = _read_one(path, source_fd)
    except StorageError as error:
        report.damaged.append(Line(kind, f"{STORE}/{path}", f"cannot be read: {error.reason}"))
        return None
    if data is None or is_right(name, data):
        return data
    is_cut = kind is Kind.MANIFEST and not data.endswith(b"\n")  # derived, and never synced
    line = Line(kind, f"{STORE}/{path}", "a crash cut it short" if is_cut else "its bytes are not its name's")
    (report.skipped if is_cut or path != name else report.damaged).append(line)
    return None


def _take_long(path: str, name: str, source_fd: int, store_fd: int | None, report: Draft) -> bool | None:
    """Take a long object in bounded memory; None for a short one, and where something is wrong on a side."""
    try:
        fd = durable.open_file_fd(path, source_fd)
    except StorageError:
        return None
    try:
        if os.fstat(fd).st_size < _LONG_BYTES or not _is_long_object(fd, name):
            return None
        if store_fd is not None and durable.exists(name, store_fd):
            if not objects.is_sound(store_fd, name):
                return None
            report.present += 1
            return False
        if not report.dry_run:
            assert store_fd is not None, "the store was made"
            objects.put_open(store_fd, fd)
    finally:
        durable.close_read(fd)
    as_path = "" if path == name else f"{STORE}/{name}"
    report.copied.append(Line(Kind.OBJECT, f"{STORE}/{path}", "", as_path))
    return True


def _is_long_object(fd: int, name: str) -> bool:
    """True if the bytes of an open file are those of this name. One that cannot be read is not."""
    try:
        return cloning.hash_open(fd, name)[1].hex() == parse_object_path(name)
    except StorageError:
        return False


def _take_one(
    kind: Kind,
    path: str,
    name: str,
    data: bytes,
    is_right: Callable[[str, bytes], bool],
    put: Callable[[int, str, bytes], None],
    store_fd: int | None,
    report: Draft,
) -> bool:
    ours = None if store_fd is None else _read_one(name, store_fd)
    if ours == data:
        report.present += 1
        return False
    as_path = "" if path == name else f"{STORE}/{name}"
    is_damaged = ours is not None and not durable.is_cut_short(ours, data)
    what = "damaged here" if is_damaged else ""
    if not report.dry_run:
        assert store_fd is not None, "the store was made"
        if ours is None or not durable.exists(name, store_fd):  # nowhere here, or damaged in a pack
            put(store_fd, name, data)
        elif is_damaged:
            what = f"what was here is kept as {STORE}/{replace_keeping(store_fd, name, data)}"
        else:
            durable.replace(name, data, store_fd, sync=kind is Kind.OBJECT)
    (report.copied if ours is None else report.repaired).append(Line(kind, f"{STORE}/{path}", what, as_path))
    return True


def _read_one(path: str, store_fd: int) -> bytes | None:
    """The bytes of a manifest, loose or packed, or of an object; None if it is not here."""
    if parse_manifest_path(path) is not None:
        return manifests.read_bytes(store_fd, path)
    try:
        return durable.read_file(path, store_fd)
    except FileNotFoundError:
        return None
