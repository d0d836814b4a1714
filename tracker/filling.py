"""What the index lacks: planned from names, read from files, written as rows.

Knows which files the index was made of and which lie there. Writes nothing below the root.

Spec: spec/layout.md section 7; spec/log.md section 4, "Which files count".
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from msgspec import Struct

from tracker._disk import durable
from tracker._model.event import decode_events
from tracker._model.fold import State, absorb, collector_paused
from tracker._model.names import parse_segment_name
from tracker._store import segments
from tracker._store.index import BULK_BYTES, Cover, Index
from tracker._store.segments import Segment, SegmentFile

_CHUNK_BYTES = 4 << 20

Progress = Callable[[int, int], None]
"""Told how many bytes of how many have been read."""


class Plan(Struct, frozen=True):
    """What brings the index up to date."""

    read: list[SegmentFile]
    rebuild: bool

    @property
    def is_empty(self) -> bool:
        """True if the index is current."""
        return not (self.read or self.rebuild)


def plan_update(covers: dict[str, Cover], files: Sequence[SegmentFile], own: Collection[str] = ()) -> Plan:
    """Say which write-once files to read, and whether what was read before still stands.

    A covered file that is gone means that the store was rolled back, though a shorter journal of the same
    writer and number be there, or that a part gave way to a sealed file, which need not hold the same:
    everything is read anew. A second sealed file of one writer and number, or damage, which may have been
    repaired, has the same effect.
    """
    counting = [f for f in segments.choose(files)[0] if f.name.kind != "open"]
    there = {file.path for file in counting}
    gone = [path for path in covers if path not in there]
    news = [file for file in counting if file.path not in covers and file.path not in own]
    if gone or _has_rival(news, counting):
        return Plan(counting, rebuild=True)
    return Plan(news, rebuild=False)


def _has_rival(news: list[SegmentFile], counting: list[SegmentFile]) -> bool:
    fresh = {file.path for file in news if file.name.kind == "seg"}
    seen: dict[tuple[str, int], str] = {}
    for file in counting:
        if file.name.kind == "seg":
            rival = seen.setdefault(file.owner, file.path)
            if rival != file.path and (file.path in fresh or rival in fresh):
                return True
    return False


def fill_index(
    index: Index,
    ledger_fd: int,
    files: list[SegmentFile],
    own: Collection[str],
    progress: Progress | None = None,
) -> None:
    """Bring `index` up to date with `files`, of which `own` need not be read. All or nothing.

    Cost: 15 µs a run that is new or changed; 10 of many finished ones that come to an empty index.
    Raises: sqlite3.Error; VersionError.
    """
    with index.transaction():
        covers = index.covers()
        files = [*files, *_newer(covers, files, ledger_fd)]
        plan = plan_update(covers, files, own)
        if any(_has_changed(cover, ledger_fd) for cover in covers.values() if cover.damaged):
            plan = Plan(plan_update({}, files).read, rebuild=True)
        if plan.rebuild:
            index.clear()
        hidden = segments.choose(files)[1]
        is_bulk = (plan.rebuild or not covers) and sum(_sizes(plan.read, ledger_fd)) >= BULK_BYTES
        if is_bulk:
            index.begin_bulk()
        made = Filling(index, ledger_fd, progress).read(plan.read, hidden)
        index.end_bulk()
        index.set_covers(made)


def _newer(covers: dict[str, Cover], files: list[SegmentFile], ledger_fd: int) -> list[SegmentFile]:
    """Covered files that came after `files` were listed: another process was faster. They are not gone.

    An index made anew without them would tell processes that know them as covered that their runs are not
    there.
    """
    listed = {file.path for file in files}
    unlisted = [path for path in covers if path not in listed]
    there = {file.path for file in segments.list_segments(ledger_fd)} if unlisted else set()
    parts = (p.partition("/") for p in unlisted if p in there or durable.exists(p, ledger_fd))
    named = ((month, name, parse_segment_name(name)) for month, _, name in parts)
    return [SegmentFile(month, name, parsed) for month, name, parsed in named if parsed is not None]


def _has_changed(cover: Cover, ledger_fd: int) -> bool:
    stamp = segments.stat_segment(ledger_fd, cover.path)
    return stamp is None or stamp.mtime_ns != cover.mtime_ns or stamp.size_bytes != cover.size


class Filling:
    """One pass over files that the index lacks."""

    def __init__(self, index: Index, ledger_fd: int, progress: Progress | None) -> None:
        self._index = index
        self._ledger_fd = ledger_fd
        self._progress = progress
        self._state = State()
        self._clock = 0
        self._pending_bytes = 0

    def read(self, files: Sequence[SegmentFile], hidden: Sequence[SegmentFile]) -> list[Cover]:
        """Read all, write the rows, and say what they cover."""
        forks = self._forks(files)
        total = sum(_sizes(files, self._ledger_fd))
        made: list[Cover] = []
        done = 0
        with collector_paused():
            for segment in segments.read_chosen(self._ledger_fd, [*files, *hidden]):
                made.append(self._take(segment, forks))
                done += segment.size_bytes
                if self._progress is not None:
                    self._progress(done, total)
            self._flush()
        return [cover for cover in made if not cover.path.endswith(".open")]

    def _forks(self, files: Sequence[SegmentFile]) -> set[bytes]:
        """Frames that two sealed files of one writer and number tell differently: almost always none."""
        if len({file.owner for file in files}) == len(files):
            return set()
        return segments.forked_frames(segments.read_chosen(self._ledger_fd, files))

    def _take(self, segment: Segment, forks: set[bytes]) -> Cover:
        bulk = self._index.bulk
        if bulk is None or forks or segment.scan.salvaged:
            for frame, events, fork, proven in segments.iter_events(segment, forks):
                absorb(self._state, events, frame.clock, segment.writer, frame.seq, fork=fork, proven=proven)
        else:
            for frame in bulk.iter_others(segment.scan.frames, segment.writer, self._state):
                events = decode_events(frame.payload)
                absorb(self._state, events, frame.clock, segment.writer, frame.seq)
        if segment.opened is not None:
            self._index.set_writer(segment.opened.writer, segment.opened.host, segment.opened.user)
        if segment.scan.frames:
            self._clock = max(self._clock, segment.scan.frames[-1].clock)
        self._pending_bytes += segment.size_bytes
        if self._pending_bytes > _CHUNK_BYTES:
            self._flush()
        return Cover(segment.place.path, segment.size_bytes, segment.mtime_ns, bool(segment.damage))

    def _flush(self) -> None:
        self._index.absorb(self._state, self._clock)
        self._state = State()
        self._pending_bytes = 0


def _sizes(files: Sequence[SegmentFile], ledger_fd: int) -> Iterator[int]:
    return (_size_of(file.path, ledger_fd) for file in files)


def _size_of(path: str, ledger_fd: int) -> int:
    stamp = segments.stat_segment(ledger_fd, path)
    return 0 if stamp is None else stamp.size_bytes
