"""Sealed, live and partial segments in `ledger/`: list, read, choose, publish a dead writer's part.

Knows file names and whole files, loose or in packs: a segment has one name wherever it lies. Never writes to
a file that another process may read, and never judges what events mean.

Spec: spec/layout.md section 2; spec/log.md sections 4 and 5; spec/packs.md section 4.
"""

import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct, structs

from tracker._codec.frame import Frame, FrameType, Scan, Verdict, file_hash, read_trusted, scan
from tracker._disk import durable, host
from tracker._model.event import Event, Opened, decode_events, decode_opened, format_of_opened
from tracker._model.names import LEDGER, SegmentName, is_month, parse_segment_name, segment_name
from tracker._store import packs
from tracker._store.packs import Table
from tracker.errors import DamagedError, VersionError
from tracker.terms import WriterId

_LISTS_MAX = 20
_FINE_NS = 100_000_000
_COARSE_NS = 2_000_000_000
_STAMPS = 1 << 63  # what SQLite holds

DEAD_AFTER_S = 24 * 3600


class Sort(Struct, frozen=True):
    """What segments of a room are: their room below `.tracker`, the types of their frames, and their OPEN."""

    room: str
    last_type: FrameType
    decode_opened: Callable[[memoryview | bytes, str], Opened]


OF_LEDGER = Sort(LEDGER, FrameType.SEAL, decode_opened)


class SegmentFile(NamedTuple):
    """One segment's place, `ledger/<month>/<file>`, loose or in a pack there, and what its name says."""

    month: str
    file: str
    name: SegmentName

    @property
    def path(self) -> str:
        """Below `ledger/`."""
        return f"{self.month}/{self.file}"

    @property
    def owner(self) -> tuple[str, int]:
        """Writer and number: what a segment is, under whatever name its bytes lie."""
        return self.name.writer, self.name.number


class Segment(Struct, frozen=True):
    """A segment as read. `damage` is empty for a whole file and for a torn journal.

    Where it is damaged in all its copies, `mtime_ns` is the sum of their time stamps: it moves when one does.
    """

    place: SegmentFile
    scan: Scan
    size_bytes: int
    mtime_ns: int
    opened: Opened | None
    damage: str = ""

    @property
    def writer(self) -> WriterId:
        """Whose events these are: its OPEN frame says, or its name where that does not read."""
        return self.place.name.writer if self.opened is None else self.opened.writer


SegmentEvents = tuple[Frame, list[Event | None], str, bool]
"""A frame, its events, its fork mark, and whether its bytes are proved by a hash."""


class Listing:
    """The names in `ledger/`, read again only where a folder changed.

    On a local file system a month folder is listed again when its ctime changed, or was too young at the last
    look to show the next change: 0.1 s, or 2 s where times are whole seconds. On a network file system
    always, and where a pack is not whole: who copies it may still write.
    """

    def __init__(self, *, is_network: bool) -> None:
        self.is_network = is_network
        self._months: dict[str, tuple[int, int, list[SegmentFile]]] = {}
        self._root_seen: tuple[int, int] = (0, 0)

    def refresh(self, ledger_fd: int) -> bool:
        """Look again. True if any name came or went. Cost: one stat a month, 8 µs for a changed folder.

        Raises: StorageError where a pack cannot be read: what is in it must not be missed.
        """
        changed = self._refresh_months(ledger_fd)
        for month in list(self._months):
            changed |= self._refresh_month(ledger_fd, month)
        return changed

    def forget(self) -> None:
        """Look at every folder again the next time, whatever its ctime."""
        self._root_seen = (0, 0)
        self._months = {month: (0, 0, files) for month, (_, _, files) in self._months.items()}

    def files(self) -> list[SegmentFile]:
        """All segment files of the last look, in the order of months and names."""
        return [file for month in sorted(self._months) for file in self._months[month][2]]

    def _is_settled(self, ctime: int, listed: int) -> bool:
        """True if every change after the look of `listed` has, or will have, another ctime."""
        grain = _COARSE_NS if ctime % 1_000_000_000 == 0 else _FINE_NS
        return listed - ctime > grain and not self.is_network

    def _refresh_months(self, ledger_fd: int) -> bool:
        ctime, listed = self._root_seen
        seen = durable.stat_at("", ledger_fd).st_ctime_ns
        if seen == ctime and self._is_settled(ctime, listed):
            return False
        now = time.time_ns()
        months = {name for name in durable.list_names("", ledger_fd) if is_month(name)}
        self._root_seen = (seen, now)
        gone = [month for month in self._months if month not in months]
        for month in gone:
            del self._months[month]
        for month in months - self._months.keys():
            self._months[month] = (0, 0, [])
        return bool(gone)

    def _refresh_month(self, ledger_fd: int, month: str) -> bool:
        ctime, listed, files = self._months[month]
        try:
            seen = durable.stat_at(month, ledger_fd)
        except FileNotFoundError:
            del self._months[month]
            return bool(files)
        if seen.st_ctime_ns == ctime and self._is_settled(ctime, listed):
            return False
        now = time.time_ns()
        found = self._list_steadily(ledger_fd, month, seen, now) if stat.S_ISDIR(seen.st_mode) else []
        tables = packs.known_tables(month, ledger_fd).values()
        raise_refused(tables)
        is_whole = all(table.is_whole for table in tables)
        self._months[month] = (seen.st_ctime_ns if is_whole else 0, now, found)
        return found != files

    def _list_steadily(self, ledger_fd: int, month: str, seen: os.stat_result, now: int) -> list[SegmentFile]:
        """List a folder; one that is being changed until two lists agree.

        A listing need not give a name that came or went meanwhile, so a seal could show neither its journal
        nor its segment.
        """
        found = list_month(ledger_fd, month)
        for _ in range(_LISTS_MAX):
            ctime = durable.stat_at(month, ledger_fd).st_ctime_ns
            if ctime == seen.st_ctime_ns and self._is_settled(ctime, now):
                break
            again = list_month(ledger_fd, month)
            if again == found:
                break
            found = again
        return found


def list_segments(ledger_fd: int) -> list[SegmentFile]:
    """All segments below `ledger/`, in the order of months and names.

    Those in a pack that the system refuses are not among them.
    """
    months = sorted(name for name in durable.list_names("", ledger_fd) if is_month(name))
    return [file for month in months for file in list_month(ledger_fd, month)]


def list_month(ledger_fd: int, month: str) -> list[SegmentFile]:
    """The segments of one folder, loose and packed, in the order of names."""
    files = durable.list_files(month, ledger_fd)
    names = ((file, parse_segment_name(file)) for file in sorted(files))
    loose = [SegmentFile(month, file, name) for file, name in names if name is not None]
    packed = [_files_of(table, month) for table in packs.look(month, ledger_fd, files).values()]
    if not any(packed):
        return loose
    by_file = {one.file: one for found in (loose, *packed) for one in found}
    return [by_file[file] for file in sorted(by_file)]


@lru_cache(maxsize=4096)
def _files_of(table: Table, month: str) -> list[SegmentFile]:
    """The segments in a pack. Parsed once, as a pack's folder is listed again and again."""
    files = (name.rpartition("/")[2] for name in table.members)
    parsed = ((file, parse_segment_name(file)) for file in files)
    return [SegmentFile(month, file, name) for file, name in parsed if name is not None]


def raise_refused(tables: Iterable[Table]) -> None:
    """What a pack holds that the system refuses must not be missed. Raises: StorageError."""
    for table in tables:
        if table.refused is not None:
            raise table.refused


def choose(files: Iterable[SegmentFile]) -> tuple[list[SegmentFile], list[SegmentFile]]:
    """Split into the files that count and those hidden by a sealed segment of the same writer and number."""
    files = list(files)
    sealed = {file.owner for file in files if file.name.kind == "seg"}
    counting = [file for file in files if file.name.kind == "seg" or file.owner not in sealed]
    hidden = [file for file in files if file.name.kind != "seg" and file.owner in sealed]
    return counting, hidden


def read_segment(
    ledger_fd: int, place: SegmentFile, *, verify: bool = True, sort: Sort = OF_LEDGER
) -> Segment | None:
    """Read one file and judge it; None if it is gone.

    Damage is a verdict, not an error. Of several copies the first that is sound is given, else the first: the
    loose one, then those in packs. With `verify=False` a sealed file's hash is not computed.

    Raises: VersionError when a newer release wrote it.
    Cost: one read and one BLAKE3 pass, about 1 ms for 1 MiB.
    """
    first: Segment | None = None
    for data, mtime_ns in _iter_copies(ledger_fd, place, sort):
        segment = judge_segment(data, place, mtime_ns, verify=verify, sort=sort)
        if not segment.damage or place.name.kind == "open":
            return segment
        first = first or segment
    stamp = None if first is None else stat_segment(ledger_fd, place.path, sort)
    return first if first is None or stamp is None else structs.replace(first, mtime_ns=stamp.mtime_ns)


def read_bytes(ledger_fd: int, place: SegmentFile, *, sort: Sort = OF_LEDGER) -> bytes | None:
    """The bytes of a segment: of its first sound copy, else of its first; None if it is gone."""
    first: bytes | None = None
    for data, _ in _iter_copies(ledger_fd, place, sort):
        if place.name.kind == "open" or file_hash(data) == place.name.hash16:
            return data
        first = data if first is None else first
    return first


def _iter_copies(ledger_fd: int, place: SegmentFile, sort: Sort) -> Iterator[tuple[bytes, int]]:
    """Bytes and time stamp of each copy: the loose one, and those in packs.

    One that goes from loose to packed, or back, while it is looked for is found: it is under its new name
    before the old one is gone.
    """
    is_found = False
    for _ in range(2):
        try:
            mtime_ns = durable.stat_at(place.path, ledger_fd).st_mtime_ns
            yield durable.read_file(place.path, ledger_fd), mtime_ns
            is_found = True
        except FileNotFoundError:
            pass  # packed, or gone
        if place.name.kind == "open":
            return
        for copy in packs.iter_copies(place.month, ledger_fd, f"{sort.room}/{place.path}"):
            yield copy.data, copy.mtime_ns
            is_found = True
        if is_found:
            return


class Stamp(NamedTuple):
    """By what a segment that is damaged is known again: `mtime_ns` is the sum over its copies."""

    size_bytes: int
    mtime_ns: int


def stat_segment(ledger_fd: int, path: str, sort: Sort = OF_LEDGER) -> Stamp | None:
    """What the system tells of a segment below its room, loose or packed; None if it is gone."""
    found = []
    with suppress(FileNotFoundError):
        status = durable.stat_at(path, ledger_fd)
        found.append((status.st_size, status.st_mtime_ns))
    if not path.endswith(".open"):
        found += packs.stats_of(path.partition("/")[0], ledger_fd, f"{sort.room}/{path}", is_new=not found)
    return Stamp(found[0][0], sum(mtime_ns for _, mtime_ns in found) % _STAMPS) if found else None


def is_left_behind(
    ledger_fd: int, place: SegmentFile, me: host.Host, now_s: float, sort: Sort = OF_LEDGER
) -> bool:
    """True for a sound journal whose writer is gone, so that `publish_dead` would publish it."""
    if place.name.kind != "open":
        return False
    segment = read_segment(ledger_fd, place, sort=sort)
    if segment is None or segment.damage:
        return False
    return _is_dead(segment.opened, me, now_s - segment.mtime_ns / 1e9)


def is_loose(ledger_fd: int, place: SegmentFile) -> bool:
    """True if a segment lies under its own name, in a pack or not."""
    return durable.exists(place.path, ledger_fd)


def judge_segment(
    data: bytes, place: SegmentFile, mtime_ns: int = 0, *, verify: bool = True, sort: Sort = OF_LEDGER
) -> Segment:
    """What the bytes of a segment file are worth. Raises: VersionError."""
    result, damage = _judge(data, place, sort.last_type, verify=verify)
    if result.verdict is Verdict.NEWER:
        raise VersionError(
            f"{sort.room}/{place.path}",
            result.why.removeprefix("newer: "),
            "1",
            "read it with a newer release of tracker",
        )
    opened = None
    if result.frames:
        _refuse_newer(result.frames[0].payload, place, sort)
        try:
            opened = sort.decode_opened(result.frames[0].payload, place.path)
        except DamagedError as error:
            damage = damage or error.why
    return Segment(place, result, len(data), mtime_ns, opened, damage)


def _refuse_newer(payload: memoryview | bytes, place: SegmentFile, sort: Sort) -> None:
    format_ = format_of_opened(payload)
    if format_ > 1:
        raise VersionError(
            f"{sort.room}/{place.path}",
            str(format_),
            "1",
            "read it with the release of tracker that wrote it, or newer",
        )


def _judge(data: bytes, place: SegmentFile, last_type: int, *, verify: bool) -> tuple[Scan, str]:
    if place.name.kind == "open":
        result = scan(data, last_type)
        return result, result.why if result.verdict is Verdict.DAMAGED else ""
    is_proved = not verify or file_hash(data) == place.name.hash16
    result = (read_trusted(data, last_type) if is_proved else None) or scan(data, last_type)
    if result.verdict is not Verdict.WHOLE:
        return result, result.why
    if not is_proved:
        return result, "the file's hash is not the one in its name"
    is_complete = result.sealed or place.name.kind == "part"
    return result, "" if is_complete else "a sealed segment without SEAL"


def iter_events(segment: Segment, forks: set[bytes] = frozenset()) -> Iterator[SegmentEvents]:  # type: ignore[assignment]
    """The events of a segment, frame by frame; salvaged frames last, and unproven.

    `forks` holds the prefix hashes of frames that another file contradicts.
    """
    decode, events_type = decode_events, int(FrameType.EVENTS)  # looked up once: this is every replay's loop
    for frames, proven in ((segment.scan.frames, True), (segment.scan.salvaged, False)):
        for frame in frames:
            if frame.type == events_type:
                fork = frame.prefix[:8].hex() if forks and frame.prefix in forks else ""
                yield frame, decode(frame.payload), fork, proven


def forked_frames(segments: Iterable[Segment]) -> set[bytes]:
    """Prefix hashes of frames of one writer and seq that differ between files."""
    seen: dict[tuple[str, int], set[bytes]] = defaultdict(set)
    for segment in segments:
        for frame in segment.scan.frames:
            seen[segment.writer, frame.seq].add(frame.prefix)
    return {prefix for prefixes in seen.values() if len(prefixes) > 1 for prefix in prefixes}


def read_chosen(
    ledger_fd: int,
    files: Iterable[SegmentFile],
    *,
    verify: bool = True,
    on_read: Callable[[int], None] | None = None,
    sort: Sort = OF_LEDGER,
) -> Iterator[Segment]:
    """Read the segments that count, and hidden journals and parts where every sealed copy is damaged."""
    counting, hidden = choose(files)
    sound: set[tuple[str, int]] = set()
    damaged: set[tuple[str, int]] = set()
    for place in counting:
        segment = read_segment(ledger_fd, place, verify=verify, sort=sort)
        if segment is None:
            continue
        (damaged if segment.damage else sound).add(place.owner)
        if on_read is not None:
            on_read(segment.size_bytes)
        yield segment
    for place in hidden:
        if place.owner in damaged - sound:
            segment = read_segment(ledger_fd, place, sort=sort)
            if segment is not None:
                yield segment


def publish_dead(
    ledger_fd: int, place: SegmentFile, me: host.Host, now_s: float, sort: Sort = OF_LEDGER
) -> bool:
    """Publish the good prefix of a dead writer's journal as a part, and unlink the journal.

    True if the journal is gone. Two processes that do it at once write the same bytes under the same name.
    Crash states: before the rename, the journal and a `tmp-…`; after it, part and journal say the same.

    Raises: StorageError; the journal then stands as before.
    Spec: spec/log.md section 5, "Dead writers".
    """
    try:
        status = durable.stat_at(place.path, ledger_fd)
        data = durable.read_file(place.path, ledger_fd)
    except FileNotFoundError:
        return True
    segment = judge_segment(data, place, sort=sort)
    if segment.damage or not _is_dead(segment.opened, me, now_s - status.st_mtime):
        return False
    if segment.scan.frames:
        good = data[: segment.scan.end]
        part = segment_name(place.name.writer, place.name.number, "part", file_hash(good))
        durable.publish(f"{place.month}/{part}", good, ledger_fd)
    durable.unlink_if_there(place.path, ledger_fd)
    return True


def _is_dead(opened: Opened | None, me: host.Host, unchanged_s: float) -> bool:
    """Provably gone on this boot, or silent for a day. Without an owner, silence decides."""
    dead = None if opened is None else host.is_dead(opened, me)
    return unchanged_s > DEAD_AFTER_S if dead is None else dead


def unlink_ghosts(ledger_fd: int, files: Iterable[SegmentFile], sort: Sort = OF_LEDGER) -> int:
    """Unlink journals and parts hidden by a sealed segment that matches its name; return how many.

    Copies of a tree bring them back; what they hold is in the sealed file.
    """
    files = list(files)
    _, hidden = choose(files)
    sealed = {file.owner: file for file in files if file.name.kind == "seg"}
    gone = 0
    for place in (place for place in hidden if is_loose(ledger_fd, place)):
        proof = read_segment(ledger_fd, sealed[place.owner], sort=sort)
        if proof is not None and not proof.damage:
            gone += durable.unlink_if_there(place.path, ledger_fd)
    return gone
