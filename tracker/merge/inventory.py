"""What lies in the ledger of either side: names, and how much of the bytes behind each is good.

Reads; writes nothing. What is to be done about it is told in `plan`.

Spec: spec/merge.md sections 3 and 4; spec/log.md section 4.
"""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from tracker._codec.frame import file_hash
from tracker._disk import durable
from tracker._model.names import (
    SegmentName,
    is_month,
    is_shard,
    is_temporary,
    parse_segment_name,
    parse_series_name,
    segment_name,
)
from tracker._store import measured, segments
from tracker._store.measured import OF_METRICS
from tracker._store.packs import is_pack_name
from tracker._store.segments import OF_LEDGER, Segment, SegmentFile, Sort, judge_segment
from tracker.errors import StorageError
from tracker.merge.conflicts import original_name
from tracker.merge.report import Progress

Owner = tuple[str, int]
Mark = tuple[int, bytes]
"""Seq and prefix hash of a frame: it proves every byte of its segment before it."""


class Piece(NamedTuple):
    """A file of SRC's ledger. `file` is its name there; `place` the name its bytes have or claim.

    `good_bytes` long is the prefix that is good, `part` the name it has as a part; `marks` are its frames,
    the last proving all. `why` tells what is wrong with the rest; a journal's torn tail is nothing wrong.
    """

    file: str
    place: SegmentFile
    is_proven: bool
    good_bytes: int
    part: str
    marks: tuple[Mark, ...]
    lone: int
    why: str


class Here(NamedTuple):
    """The target's ledger, as far as SRC's is concerned.

    `sound` and `damaged` are paths of write-once files; `marks` the good frames of the owners asked for.
    """

    sound: frozenset[str]
    damaged: frozenset[str]
    sealed: frozenset[Owner]
    marks: dict[Owner, set[Mark]]


class Theirs(NamedTuple):
    """SRC's ledger: the pieces, names that are none of a store's, and files that could not be read."""

    pieces: list[Piece]
    foreign: list[str]
    unreadable: list[tuple[str, str]]


class Room(NamedTuple):
    """A folder of `.tracker` that holds segments in folders: how it is listed, and what its names say."""

    sort: Sort
    is_folder: Callable[[str], bool]
    parse: Callable[[str, str], SegmentName | None]
    list_files: Callable[[int], list[SegmentFile]]

    @property
    def name(self) -> str:
        """Below `.tracker`."""
        return self.sort.room


def _in_ledger(month: str, file: str) -> SegmentName | None:
    return parse_segment_name(file)


def _in_metrics(folder: str, file: str) -> SegmentName | None:
    parsed = parse_series_name(folder, file)
    return None if parsed is None else parsed[1]


IN_LEDGER = Room(OF_LEDGER, is_month, _in_ledger, segments.list_segments)
IN_METRICS = Room(OF_METRICS, is_shard, _in_metrics, measured.list_all)

_LOOKS_MAX = 20


def read_theirs(ledger_fd: int, progress: Progress, room: Room = IN_LEDGER) -> Theirs:
    """Judge every segment file and conflict copy of a ledger, or of metrics, that others may be writing.

    A journal that is sealed between listing and reading is looked for again under its new name.

    Raises: VersionError when a newer release wrote there. Cost: one read and one BLAKE3 pass.
    """
    for _ in range(_LOOKS_MAX):
        found, foreign = _list_all(ledger_fd, room)
        pieces, unreadable, went = _judge_all(ledger_fd, found, progress, room.sort)
        if not went:
            break
    return Theirs(pieces, foreign, unreadable)


def _list_all(ledger_fd: int, room: Room) -> tuple[list[tuple[str, SegmentFile]], list[str]]:
    """Files with the place each has or claims, and the names that claim none."""
    found: list[tuple[str, SegmentFile]] = []
    foreign: list[str] = []
    for month in sorted(durable.list_names("", ledger_fd)):
        if not room.is_folder(month):
            foreign.append(month)
            continue
        files = set(durable.list_files(month, ledger_fd))
        for file in sorted(durable.list_names(month, ledger_fd)):
            name = _claimed(month, file, room) if file in files else None
            if name is not None:
                found.append((f"{month}/{file}", _place(month, name)))
            elif not is_pack_name(file):
                foreign.append(f"{month}/{file}")
    loose = {path for path, _ in found}
    packed = (place for place in room.list_files(ledger_fd) if place.path not in loose)
    found += [(place.path, place) for place in packed if place.name.kind != "open"]
    return found, [path for path in foreign if not is_temporary(path.rpartition("/")[2])]


def _claimed(folder: str, file: str, room: Room) -> SegmentName | None:
    """The segment that a file says it is, by its name or by the one it had before a conflict."""
    return room.parse(folder, file) or room.parse(folder, original_name(file) or "")


def _place(month: str, name: SegmentName) -> SegmentFile:
    return SegmentFile(month, segment_name(name.writer, name.number, name.kind, name.hash16), name)


def _judge_all(
    ledger_fd: int, found: list[tuple[str, SegmentFile]], progress: Progress, sort: Sort
) -> tuple[list[Piece], list[tuple[str, str]], bool]:
    pieces: list[Piece] = []
    unreadable: list[tuple[str, str]] = []
    went = False
    for done, (path, place) in enumerate(found, 1):
        try:
            data = read_piece(ledger_fd, path, place, sort)
        except StorageError as error:
            unreadable.append((path, error.reason))
            continue
        if data is None:
            went = True
            continue
        segment = judge_segment(data, place, sort=sort)
        writer = segment.writer if sort is OF_LEDGER else place.name.writer
        pieces.append(piece_of(path, place, segment, data, writer))
        progress("segments of SRC", done, len(found))
    return pieces, unreadable, went


def read_piece(ledger_fd: int, path: str, place: SegmentFile, sort: Sort = OF_LEDGER) -> bytes | None:
    """The bytes of a file of SRC's ledger, or of a member of its packs; None if it is gone."""
    if path == place.path:
        return segments.read_bytes(ledger_fd, place, sort=sort)
    try:
        return durable.read_file(path, ledger_fd)
    except FileNotFoundError:
        return None


def piece_of(path: str, place: SegmentFile, segment: Segment, data: bytes, writer: str) -> Piece:
    """What a judged file is worth to another store. `writer` is what a part of it is named after."""
    scan, name = segment.scan, place.name
    good = memoryview(data)[: scan.end] if scan.frames else b""
    part = segment_name(writer, name.number, "part", file_hash(good)) if scan.frames else ""
    is_proven = name.kind != "open" and not segment.damage
    marks = () if is_proven else tuple((frame.seq, frame.prefix) for frame in scan.frames)
    return Piece(path, place, is_proven, len(good), part, marks, len(scan.salvaged), segment.damage)


def read_here(
    ledger_fd: int | None, pieces: Collection[Piece], progress: Progress, room: Room = IN_LEDGER
) -> Here:
    """Judge the files of the target's room that SRC has too, and those of the owners of unproven pieces.

    Cost: one read and one BLAKE3 pass over them.
    """
    if ledger_fd is None:
        return Here(frozenset(), frozenset(), frozenset(), {})
    named = {piece.place.path for piece in pieces if piece.is_proven}
    asked = {piece.place.owner for piece in pieces if not piece.is_proven}
    files = [f for f in room.list_files(ledger_fd) if f.path in named or f.owner in asked]
    sound: set[str] = set()
    damaged: set[str] = set()
    sealed: set[Owner] = set()
    marks: dict[Owner, set[Mark]] = {owner: set() for owner in asked}
    for done, (file, segment) in enumerate(_iter_judged(ledger_fd, files, room.sort), 1):
        progress("segments", done, len(files))
        is_sound = segment is not None and not segment.damage
        if file.name.kind != "open":
            (sound if is_sound else damaged).add(file.path)
        if file.name.kind == "seg" and is_sound:
            sealed.add(file.owner)
        if segment is not None and file.owner in marks:
            marks[file.owner].update((frame.seq, frame.prefix) for frame in segment.scan.frames)
    sealed |= _sealed_beside(ledger_fd, pieces, sealed, room)
    return Here(frozenset(sound), frozenset(damaged), frozenset(sealed), marks)


def _iter_judged(
    ledger_fd: int, files: list[SegmentFile], sort: Sort
) -> Iterator[tuple[SegmentFile, Segment | None]]:
    """Each file with what it is worth; None where the system gives no bytes. One that is gone is left out."""
    for file in files:
        try:
            segment = segments.read_segment(ledger_fd, file, sort=sort)
        except StorageError:
            yield file, None
            continue
        if segment is not None:
            yield file, segment


def _sealed_beside(ledger_fd: int, pieces: Collection[Piece], known: set[Owner], room: Room) -> set[Owner]:
    """Owners of SRC's parts that a sound sealed file here hides."""
    asked = {p.place.owner for p in pieces if p.is_proven and p.place.name.kind == "part"} - known
    files = [
        f for f in room.list_files(ledger_fd) if f.name.kind == "seg" and f.owner in asked
    ] if asked else []  # fmt: skip
    judged = _iter_judged(ledger_fd, files, room.sort)
    return {f.owner for f, segment in judged if segment and not segment.damage}
