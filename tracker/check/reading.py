"""The whole ledger read once from its files, with all that is wrong in them. The index is not asked.

Spec: spec/log.md section 4; spec/recovery.md.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from tracker._codec.digest import uid_of
from tracker._codec.frame import Frame, FrameType, Verdict
from tracker._disk import durable, host
from tracker._model.event import (
    Created,
    Done,
    End,
    Failed,
    Input,
    Interrupted,
    Opened,
    decode_sealed,
    decode_singly,
)
from tracker._model.fold import History, Stamp, State, absorb, collector_paused, run_of
from tracker._model.manifest import Ended, encode_manifest, manifest_of
from tracker._model.names import LEDGER, STORE, is_month, is_temporary, parse_segment_name, split_ref
from tracker._store import segments
from tracker._store.packs import is_pack_name
from tracker._store.segments import Segment, SegmentFile
from tracker.check.findings import CURE_MERGE, CURE_REPAIR, Finding, Progress, damage, incomplete, note
from tracker.errors import DamagedError, StorageError
from tracker.terms import AttemptId, RunRef, Uid, WriterId


class EndedAt(Struct, frozen=True):
    """An end event with the frame and the writer that recorded it."""

    event: End
    seq: int
    prefix: bytes
    writer: WriterId
    opened: Opened | None


class Reading(Struct):
    """What the ledger's files hold."""

    state: State = field(default_factory=State)
    findings: list[Finding] = []
    ends: dict[RunRef, dict[Stamp, EndedAt]] = {}
    opened: dict[WriterId, Opened] = {}
    segments: int = 0
    frames: int = 0
    events: int = 0
    seqs: dict[WriterId, dict[int, set[bytes]]] = {}

    def counts(self) -> dict[str, int]:
        """How many things of each kind were looked at."""
        return {
            "segments": self.segments,
            "frames": self.frames,
            "events": self.events,
            "runs": len(self.state.runs),
        }


def read_ledger(ledger_fd: int, progress: Progress) -> Reading:
    """Read every segment that counts, and judge each. Raises: VersionError.

    Cost: 2 µs an event.
    """
    reading = Reading()
    files = segments.list_segments(ledger_fd)
    _, hidden = segments.choose(files)
    reading.findings += [_ghost(place) for place in hidden if segments.is_loose(ledger_fd, place)]
    forks = _forks_of(ledger_fd, files)
    with collector_paused():
        for done, segment in enumerate(_readable(ledger_fd, files, reading), 1):
            _take(reading, segment, forks)
            progress("segments", done, len(files))
    _judge_writers(reading)
    _judge_runs(reading)
    return reading


def reading_of(found: Iterable[Segment]) -> Reading:
    """The same of segments that lie in no ledger yet; writers and runs are not judged."""
    reading = Reading()
    for segment in found:
        _take(reading, segment, set())
    return reading


def _readable(ledger_fd: int, files: list[SegmentFile], reading: Reading) -> Iterable[Segment]:
    """The segments that can be read; a file the system will not give is a finding."""
    counting, hidden = segments.choose(files)
    read: dict[tuple[str, int], bool] = defaultdict(bool)
    for place in [*counting, *hidden]:
        if place in hidden and read[place.owner]:
            continue
        try:
            segment = segments.read_segment(ledger_fd, place)
        except StorageError as error:
            reading.findings.append(damage("unreadable", _shown(place), str(error)))
            continue
        if segment is not None:
            read[place.owner] |= not segment.damage
            yield segment


def _forks_of(ledger_fd: int, files: list[SegmentFile]) -> set[bytes]:
    """Frames of one writer and number that two sealed files tell differently."""
    owners = [file.owner for file in files if file.name.kind != "open"]
    if len(set(owners)) == len(owners):
        return set()
    twice = [file for file in files if owners.count(file.owner) > 1]
    found = (segments.read_segment(ledger_fd, place) for place in twice)
    return segments.forked_frames(segment for segment in found if segment is not None)


def _shown(place: SegmentFile) -> str:
    return f"{STORE}/{LEDGER}/{place.path}"


def _ghost(place: SegmentFile) -> Finding:
    what = "hidden by the sealed segment of the same writer and number"
    return note("ghost", _shown(place), what, f"the next writer unlinks it, or {CURE_REPAIR}")


def _take(reading: Reading, segment: Segment, forks: set[bytes]) -> None:
    reading.segments += 1
    reading.findings += judge_segment(segment, _shown(segment.place))
    writer = segment.writer
    if segment.opened is not None:
        reading.opened[writer] = segment.opened
    seqs = reading.seqs.setdefault(writer, {})
    last_clock = -1
    for frame in segment.scan.frames:
        reading.frames += 1
        seqs.setdefault(frame.seq, set()).add(frame.prefix)
        reading.findings += _judge_payload(segment, frame, last_clock)
        last_clock = frame.clock
    for frame, events, fork, proven in segments.iter_events(segment, forks):
        reading.events += len(events)
        absorb(reading.state, events, frame.clock, writer, frame.seq, fork=fork, proven=proven)
        for position, event in enumerate(events):
            if isinstance(event, (Done, Failed, Interrupted)):
                end = EndedAt(event, frame.seq, frame.prefix, writer, segment.opened)
                reading.ends.setdefault(event.run, {})[frame.clock, writer, frame.seq, position, fork] = end


def judge_segment(segment: Segment, path: str) -> list[Finding]:
    """What is wrong with a segment as a file, of whatever sort."""
    scan = segment.scan
    if segment.damage:
        what = f"byte {scan.end}: {segment.damage}; {len(scan.salvaged)} later frames salvaged"
        return [damage("segment-damaged", path, what, CURE_MERGE)]
    if scan.verdict is Verdict.TORN:
        what = f"{segment.size_bytes - scan.end} bytes after byte {scan.end} are a torn tail: {scan.why}"
        return [
            incomplete(
                "torn", path, what, "nothing was acknowledged there; the next writer publishes the rest"
            )
        ]
    return []


def _judge_payload(segment: Segment, frame: Frame, last_clock: int) -> list[Finding]:
    path = _shown(segment.place)
    found: list[Finding] = []
    if frame.clock <= last_clock:
        found.append(damage("clock", path, f"frame {frame.seq}: its clock does not rise"))
    if frame.type == FrameType.EVENTS:
        faults = [fault for fault in decode_singly(frame.payload) if isinstance(fault, str)]
        found += [damage("broken-event", path, f"frame {frame.seq}: {fault}") for fault in faults]
    if frame.type == FrameType.SEAL:
        found += judge_seal(segment, frame, path)
    if frame.type == FrameType.OPEN and segment.opened is not None:
        name = segment.place.name
        if (segment.opened.writer, segment.opened.segment) != (name.writer, name.number):
            what = f"OPEN names writer {segment.opened.writer}, segment {segment.opened.segment}"
            found.append(damage("renamed", path, what, "give the file the name it was written under"))
    return found


def judge_seal(segment: Segment, frame: Frame, path: str) -> list[Finding]:
    """What is wrong with SEAL."""
    try:
        frames = decode_sealed(frame.payload).frames
    except DamagedError as error:
        return [damage("broken-event", path, error.why)]
    if frames == len(segment.scan.frames):
        return []
    return [damage("seal-count", path, f"SEAL counts {frames} frames, there are {len(segment.scan.frames)}")]


def _judge_writers(reading: Reading) -> None:
    """Gaps in a writer's seqs: a segment is not here. Two frames of one seq: a fork."""
    damaged = any(finding.code == "segment-damaged" for finding in reading.findings)
    for writer, seqs in reading.seqs.items():
        path = f"{STORE}/{LEDGER}: writer {writer}"
        forked = sorted(seq for seq, prefixes in seqs.items() if len(prefixes) > 1)
        if forked:
            what = f"frames {forked[0]}–{forked[-1]} exist twice: a restored machine went on writing"
            reading.findings.append(
                damage("fork", path, what, "both are kept and shown; check the runs concerned")
            )
        missing = sorted(set(range(max(seqs, default=-1) + 1)) - seqs.keys())
        if missing and not damaged:
            what = f"frames {missing[0]}–{missing[-1]} are not here: a segment was not copied"
            reading.findings.append(incomplete("gap", path, what, "copy the tree again"))


def _judge_runs(reading: Reading) -> None:
    me = host.this_process()
    for stray in sorted(reading.state.strays):
        reading.findings.append(damage("stray", stray[:200], "an event speaks of it, and it names no run"))
    for ref, history in reading.state.runs.items():
        created = [event for event in history.values() if isinstance(event, Created)]
        uid = split_ref(ref).uid
        if any(uid_of(event.params.encode()) != uid for event in created):
            reading.findings.append(
                damage("params-of-another-uid", ref, "its recorded params hash to another uid")
            )
        if len({event.params for event in created}) > 1:
            reading.findings.append(
                damage("collision", ref, "two different params are recorded under one uid")
            )
        if not created:
            what = "its events are here, the one that creates it is not"
            reading.findings.append(incomplete("run-without-params", ref, what, "copy the tree again"))
        _judge_attempts(reading, ref, me)


def _judge_attempts(reading: Reading, ref: RunRef, me: host.Host) -> None:
    run = run_of(ref, reading.state.runs[ref], unproven=bool(reading.state.unproven.get(ref)))
    if run.unproven:
        what = "an event was salvaged from a damaged segment: its bytes are right, its place is not proved"
        reading.findings.append(note("unproven", ref, what, "copy the damaged segment again"))
    if run.divergent:
        what = "it was done twice, unknown to each other, and the files differ"
        reading.findings.append(note("divergent", ref, what, "compare the attempts with `tracker show`"))
    for attempt in run.attempts:
        if not attempt.head or attempt.end is not None:
            continue
        opened = reading.opened.get(attempt.writer)
        if opened is not None and host.is_dead(opened, me):
            what = f"attempt {attempt.id}: process {opened.pid} of {opened.host} ended without a word"
            reading.findings.append(incomplete("unfinished", ref, what, "run it again"))


def read_names(ledger_fd: int) -> list[Finding]:
    """Names in `ledger/` that are none of the store's: temporary files, conflict copies, links."""
    found = []
    for month in durable.list_names("", ledger_fd):
        if not is_month(month):
            found.append(f"{LEDGER}/{month}")
            continue
        listed = durable.list_files(month, ledger_fd)
        files = {name for name in listed if parse_segment_name(name) or is_pack_name(name)}
        others = set(durable.list_names(month, ledger_fd)) - files
        found += [f"{LEDGER}/{month}/{name}" for name in others]
    return [foreign(path) for path in sorted(found)]


def foreign(path: str) -> Finding:
    """A name below `.tracker` that is none of the store's."""
    name = path.rpartition("/")[2]
    if is_temporary(name):
        return note(
            "temporary", f"{STORE}/{path}", "a file that was never finished", "remove it if no process runs"
        )
    return note(
        "foreign", f"{STORE}/{path}", "no name of the store's: ignored", "move it away, or look what is in it"
    )


def implied_manifests(reading: Reading, uid: Uid | None = None) -> dict[str, bytes]:
    """Path and bytes of every manifest that the ledger implies, or of those of one uid. Cost: 20 µs each."""
    refs = [ref for ref in reading.state.runs if uid is None or ref.endswith(uid)]
    return dict(encode_manifest(manifest_of(ended)) for ref in refs for ended in ended_of(reading, ref))


def ended_of(reading: Reading, ref: RunRef) -> list[Ended]:
    """All that the manifests of a run are made of, one for each end. Spec: spec/manifest.md section 1."""
    history = reading.state.runs.get(ref, {})
    if not history or (run := run_of(ref, history)).params is None:
        return []
    started = {attempt.id: attempt.started for attempt in run.attempts}
    return [
        Ended(
            run.params,
            run.key,
            end.event.attempt,
            started.get(end.event.attempt),
            end.event,
            end.opened,
            end.writer,
            end.seq,
            end.prefix,
            *_told_before(ref, history, stamp, end.event.attempt),
        )
        for stamp, end in reading.ends.get(ref, {}).items()
    ]


def _told_before(
    ref: RunRef, history: History, end: Stamp, attempt: AttemptId
) -> tuple[dict[str, Any], dict[str, Any], list[Input]]:
    """Summary, facts and inputs of an attempt up to its end."""
    before = {stamp: event for stamp, event in history.items() if stamp < end}
    attempts = run_of(ref, before).attempts if before else []
    one = next((each for each in attempts if each.id == attempt), None)
    return ({}, {}, []) if one is None else (one.summary, one.facts, one.inputs)
