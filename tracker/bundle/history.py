"""The ledger of a bundle: segments as they are where they tell of chosen runs alone, else a new one.

Reads segments, writes nothing. Spec: spec/bundle.md section 2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tracker._codec.digest import digest
from tracker._codec.frame import MAGIC, Frame, FrameEncoder, FrameType, file_hash
from tracker._disk.host import new_writer_id
from tracker._model.event import (
    Attached,
    Event,
    Noted,
    Opened,
    Purged,
    Removed,
    Restored,
    Rule,
    RunEvent,
    Started,
    decode_singly,
    encode_events,
    encode_opened,
    encode_sealed,
)
from tracker._model.fold import Stamp, attempt_id, run_of
from tracker._model.manifest import encode_manifest, manifest_of
from tracker._model.names import LEDGER, month_of, parse_segment_name, segment_name
from tracker._store import segments
from tracker._store.segments import OF_LEDGER, Segment, SegmentFile, Sort
from tracker.check.reading import Reading, ended_of, reading_of
from tracker.check.recovery import notes_on
from tracker.errors import DamagedError
from tracker.terms import AttemptId, RunRef, WriterId

UNPROVEN = "its history was salvaged from a damaged segment: unproven"

_HOST = "bundle"
_RECOVERED, _, _SUPERSEDED = range(3)


class Kept(NamedTuple):
    """A segment that is taken as it is, up to `size_bytes`; `path` is below the bundle's `.tracker`."""

    path: str
    place: SegmentFile
    size_bytes: int
    is_whole: bool


class History(NamedTuple):
    """What the ledger of a bundle is made of. `manifests` are original ones that stay beside it."""

    kept: list[Kept]
    new: dict[str, bytes]
    """Path below `.tracker` and bytes of the new segment; empty where none is needed."""
    anew: int
    manifests: dict[str, bytes]
    left_out: list[AttemptId]


def history_of(
    ledger_fd: int, reading: Reading, chosen: set[RunRef], version: str, *, whole: bool
) -> History:
    """Decide of each writer whether its segments are taken as they are, and write the rest anew.

    Raises: StorageError. Cost: one reading of the segments that tell of chosen runs.
    """
    files: dict[WriterId, list[SegmentFile]] = defaultdict(list)
    for place in segments.choose(segments.list_segments(ledger_fd))[0]:
        files[place.name.writer].append(place)
    touched = {stamp[1] for ref in chosen for stamp in reading.state.runs[ref]}
    if whole:
        kept = {w: _as_they_are(ledger_fd, files[w]) for w in touched}
    else:
        fit = {w: _fit(ledger_fd, w, files[w], reading, chosen) for w in touched}
        kept = {w: found for w, found in fit.items() if found}
        _drop_of_mixed(kept, reading, chosen)
    draft = _Anew(reading, chosen, kept.keys())
    frames = draft.frames()
    return History(
        sorted(one for found in kept.values() for one in found),
        _segment_of(frames, version),
        sum(len(events) for _, events in frames),
        draft.manifests,
        sorted(draft.left_out),
    )


def read_kept(ledger_fd: int, kept: Kept, sort: Sort = OF_LEDGER) -> bytes:
    """The bytes of a segment that is taken. Raises: DamagedError where they are no longer what they were."""
    data = segments.read_bytes(ledger_fd, kept.place, sort=sort)
    data = None if data is None else data[: None if kept.is_whole else kept.size_bytes]
    if data is None:
        raise DamagedError(kept.path, "it went while it was read", cure="make the bundle again")
    return data


def reading_of_bundle(ledger_fd: int, history: History) -> Reading:
    """What the bundle's own ledger holds. Cost: one more reading of its segments."""
    return reading_of(_iter_segments(ledger_fd, history))


def _iter_segments(ledger_fd: int, history: History) -> Iterator[Segment]:
    for kept in history.kept:
        yield _judged(read_kept(ledger_fd, kept), kept.path)
    for path, data in history.new.items():
        yield _judged(data, path)


def _judged(data: bytes, path: str) -> Segment:
    _, month, file = path.split("/")
    name = parse_segment_name(file)
    assert name is not None, f"{path} was printed by segment_name"
    return segments.judge_segment(data, SegmentFile(month, file, name))


# As they are


def as_it_is(data: bytes, place: SegmentFile, end: int, room: str = LEDGER) -> Kept:
    """A sealed file under its own name; the first bytes of another as a part."""
    if place.name.kind != "open" and end == len(data):
        return Kept(f"{room}/{place.path}", place, end, is_whole=True)
    name = segment_name(place.name.writer, place.name.number, "part", file_hash(data[:end]))
    return Kept(f"{room}/{place.month}/{name}", place, end, is_whole=False)


def kept_of(fd: int, place: SegmentFile, sort: Sort) -> Kept | None:
    """A segment as it is, of a journal its good prefix; None if nothing is good in it, or it is gone."""
    data = segments.read_bytes(fd, place, sort=sort)
    if data is None:
        return None
    scan = segments.judge_segment(data, place, sort=sort).scan
    end = scan.end if place.name.kind == "open" else len(data)
    return as_it_is(data, place, end, sort.room) if scan.frames or place.name.kind != "open" else None


def longest(found: Iterable[Kept]) -> list[Kept]:
    """Of journal and parts of one segment the longest alone; sealed segments all."""
    best: dict[tuple[str, int, bool, str], Kept] = {}
    for one in found:
        is_sealed = one.place.name.kind == "seg"
        key = (*one.place.owner, is_sealed, one.path if is_sealed else "")
        if key not in best or best[key].size_bytes < one.size_bytes:
            best[key] = one
    return [*best.values()]


def _as_they_are(ledger_fd: int, files: list[SegmentFile]) -> list[Kept]:
    found = (kept_of(ledger_fd, place, OF_LEDGER) for place in files)
    return longest(one for one in found if one is not None)


def _fit(
    ledger_fd: int, writer: WriterId, files: list[SegmentFile], reading: Reading, chosen: set[RunRef]
) -> list[Kept]:
    """The segments of a writer if each is sound and tells of chosen runs alone; else none."""
    seqs = reading.seqs.get(writer, {})
    last = max(seqs, default=-1)
    if len(seqs) != last + 1 or any(len(prefixes) > 1 for prefixes in seqs.values()):
        return []
    found = []
    for place in files:
        data = segments.read_bytes(ledger_fd, place)
        segment = None if data is None else segments.judge_segment(data, place)
        if data is None or segment is None or not _is_sound(segment, chosen, last):
            return []
        frames = [frame for frame in segment.scan.frames if frame.seq <= last]
        if frames:
            is_all = len(frames) == len(segment.scan.frames) and place.name.kind != "open"
            found.append(as_it_is(data, place, len(data) if is_all else frames[-1].end))
    return longest(found)


def _is_sound(segment: Segment, chosen: set[RunRef], last: int) -> bool:
    opened, name = segment.opened, segment.place.name
    if segment.damage or opened is None or (opened.writer, opened.segment) != (name.writer, name.number):
        return False
    return all(
        _tells_of(frame, events, chosen)
        for frame, events, _, _ in segments.iter_events(segment)
        if frame.seq <= last
    )


def _tells_of(frame: Frame, events: list[Event | None], chosen: set[RunRef]) -> bool:
    """True if a frame holds rules and events of chosen runs; kinds that are unknown are no hindrance."""
    if any(not isinstance(event, Rule) and event is not None and event.run not in chosen for event in events):
        return False
    return None not in events or not any(isinstance(one, str) for one in decode_singly(frame.payload))


def _drop_of_mixed(kept: dict[WriterId, list[Kept]], reading: Reading, chosen: set[RunRef]) -> None:
    """Take out the writers of runs that have attempts elsewhere: which supersedes which must show, or not."""
    writers = {ref: _writers_of_attempts(reading.state.runs[ref].items()) for ref in chosen}
    while mixed := {w for ws in writers.values() if not ws <= kept.keys() for w in ws if w in kept}:
        for writer in mixed:
            del kept[writer]


def _writers_of_attempts(history: Iterable[tuple[Stamp, RunEvent]]) -> set[WriterId]:
    return {stamp[1] for stamp, event in history if isinstance(event, Started) or hasattr(event, "attempt")}


# Anew


class _Anew:
    """The events of chosen runs by writers whose segments are not taken, as a new writer tells them."""

    def __init__(self, reading: Reading, chosen: set[RunRef], kept: Iterable[WriterId]) -> None:
        self.manifests: dict[str, bytes] = {}
        self.left_out: set[AttemptId] = set()
        self._reading = reading
        self._chosen = chosen
        self._kept = set(kept)

    def frames(self) -> list[tuple[int, list[Event]]]:
        """Clock and events of each frame, in order."""
        told: list[tuple[Stamp, Event]] = [
            (stamp, rule) for stamp, rule in self._reading.state.rules.items() if stamp[1] not in self._kept
        ]
        for ref in self._chosen:
            told += self._of_run(ref)
        grouped: dict[tuple[int, str, int, str], list[Event]] = {}
        for (clock, writer, seq, _, fork), event in sorted(told, key=lambda one: one[0]):
            grouped.setdefault((clock, writer, seq, fork), []).append(event)
        return [(clock, events) for (clock, *_), events in grouped.items()]

    def _of_run(self, ref: RunRef) -> Iterator[tuple[Stamp, Event]]:
        history = self._reading.state.runs[ref]
        mine = {stamp: event for stamp, event in history.items() if stamp[1] not in self._kept}
        if not mine:
            return
        run = run_of(ref, history)
        heads = {attempt.id for attempt in run.attempts if attempt.head}
        ends = self._manifests_of(ref)
        for stamp, event in mine.items():
            attempt = _attempt_of(stamp, event)
            if attempt is not None and attempt not in heads:
                self.left_out.add(attempt)
                if stamp in ends:
                    yield stamp, Noted(ref, self._note(stamp, *ends[stamp], _SUPERSEDED))
            elif isinstance(event, Started):
                yield stamp, Attached(ref, attempt_id(stamp[1], stamp[2]), [])
            elif not isinstance(event, (Removed, Restored, Purged)):
                yield stamp, event
                if stamp in ends:
                    yield stamp, Noted(ref, self._note(stamp, *ends[stamp], _RECOVERED))
        if self._reading.state.unproven.get(ref):
            yield max(mine), Noted(ref, UNPROVEN)

    def _manifests_of(self, ref: RunRef) -> dict[Stamp, tuple[str, bytes]]:
        """The manifest that the original ledger implies of each end."""
        made = (encode_manifest(manifest_of(ended)) for ended in ended_of(self._reading, ref))
        return dict(zip(self._reading.ends.get(ref, {}), made, strict=False))

    def _note(self, stamp: Stamp, path: str, data: bytes, which: int) -> str:
        self.manifests[path] = data
        return notes_on(path, stamp[1], stamp[2])[which]


def _attempt_of(stamp: Stamp, event: RunEvent) -> AttemptId | None:
    if isinstance(event, Started):
        return attempt_id(stamp[1], stamp[2])
    attempt: AttemptId | None = getattr(event, "attempt", None)
    return attempt


def _segment_of(frames: list[tuple[int, list[Event]]], version: str) -> dict[str, bytes]:
    """The sealed segment of these frames, under its path below `.tracker`; nothing of none.

    Its writer's id is made of its content, so that the same content has the same name.
    """
    if not frames:
        return {}
    payloads = [(clock, encode_events(events)) for clock, events in frames]
    told = digest(b"".join(clock.to_bytes(8, "big") + digest(data).encode() for clock, data in payloads))
    time_ms = frames[-1][0] >> 16
    writer = new_writer_id(time_ms, bytes.fromhex(digest(f"{version} {told}".encode()))[:10])
    opened = Opened(1, writer, 0, _HOST, None, None, 0, None, "", version, time_ms, None)
    data = _encode(encode_opened(opened), payloads)
    name = segment_name(writer, 0, "seg", file_hash(data))
    return {f"{LEDGER}/{month_of(time_ms)}/{name}": data}


def _encode(opened: bytes, payloads: list[tuple[int, bytes]]) -> bytes:
    encoder = FrameEncoder()
    clock = max(payloads[0][0] - 1, 0)
    parts = [MAGIC, encoder.encode(FrameType.OPEN, 0, clock, opened)]
    for seq, (wanted, payload) in enumerate(payloads, 1):
        clock = max(clock + 1, wanted)
        parts.append(encoder.encode(FrameType.EVENTS, seq, clock, payload))
    sealed = encode_sealed(len(parts))
    parts.append(encoder.encode(FrameType.SEAL, len(payloads) + 1, clock + 1, sealed))
    return b"".join(parts)
