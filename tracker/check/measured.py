"""Metrics as files: held against their names and against the page, and what dead writers left of them.

Spec: spec/metrics.md; spec/recovery.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from tracker._codec.digest import digest
from tracker._codec.frame import FrameType
from tracker._disk import durable, host
from tracker._model.event import Purged
from tracker._model.fold import History
from tracker._model.names import METRICS, STORE, parse_series_name, series_stem
from tracker._model.rows import SeriesOpened, decode_blocks
from tracker._store import segments
from tracker._store.measured import OF_METRICS, list_all, list_foreign, open_metrics
from tracker._store.segments import Segment, SegmentFile
from tracker.check.findings import CURE_REPAIR, Finding, Mend, Progress, Step, damage, incomplete, note
from tracker.check.reading import foreign, judge_seal, judge_segment
from tracker.errors import StorageError
from tracker.terms import RunRef

_Seqs = dict[str, dict[int, set[bytes]]]


def iter_metrics(store_fd: int, runs: Mapping[RunRef, History], progress: Progress) -> Iterator[Finding]:
    """All that is wrong below `metrics/`. Raises: VersionError. Cost: one read and one BLAKE3 pass."""
    with _opened(store_fd) as metrics_fd:
        if metrics_fd is None:
            return
        files = list_all(metrics_fd)
        counting, hidden = segments.choose(files)
        for place in hidden:
            what = "hidden by the sealed segment of the same series and number"
            yield note("ghost", _shown(place), what, CURE_REPAIR)
        seqs: _Seqs = {}
        broken: set[str] = set()
        sound: set[tuple[str, int]] = set()
        for done, place in enumerate([*counting, *hidden], 1):
            progress("metrics", done, len(files))
            if place in hidden and place.owner in sound:
                continue
            found = list(_judge(metrics_fd, place, seqs))
            if any(finding.code in ("segment-damaged", "unreadable") for finding in found):
                broken.add(place.name.writer)
            else:
                sound.add(place.owner)
            yield from found
        yield from _judge_series({series: seqs[series] for series in seqs if series not in broken}, runs)
        for path in list_foreign(metrics_fd):
            yield foreign(f"{METRICS}/{path}")


@contextmanager
def _opened(store_fd: int) -> Iterator[int | None]:
    metrics_fd = open_metrics(store_fd)
    try:
        yield metrics_fd
    finally:
        if metrics_fd is not None:
            durable.close_read(metrics_fd)


def _shown(place: SegmentFile) -> str:
    return f"{STORE}/{METRICS}/{place.path}"


def _judge(metrics_fd: int, place: SegmentFile, seqs: _Seqs) -> Iterator[Finding]:
    path = _shown(place)
    try:
        segment = segments.read_segment(metrics_fd, place, sort=OF_METRICS)
    except StorageError as error:
        yield damage("unreadable", path, str(error))
        return
    if segment is None:
        return  # sealed meanwhile
    yield from judge_segment(segment, path)
    yield from _judge_opened(segment, path)
    last_clock = -1
    for frame in segment.scan.frames:
        seqs.setdefault(place.name.writer, {}).setdefault(frame.seq, set()).add(frame.prefix)
        if frame.clock <= last_clock:
            yield damage("clock", path, f"frame {frame.seq}: its clock does not rise")
        last_clock = frame.clock
        if frame.type == FrameType.EVENTS:
            yield damage("broken-rows", path, f"frame {frame.seq}: events among metrics")
        if frame.type == FrameType.ROWS:
            for fault in decode_blocks(frame.payload)[1]:
                yield damage("broken-rows", path, f"frame {frame.seq}: {fault}")
        if frame.type == FrameType.SEAL:
            yield from judge_seal(segment, frame, path)


def _judge_opened(segment: Segment, path: str) -> Iterator[Finding]:
    opened, place = segment.opened, segment.place
    parsed = parse_series_name(place.month, place.file)
    if not isinstance(opened, SeriesOpened) or parsed is None:
        return
    series, name = parsed
    named = (series.writer, name.number, series.uid, series.ref16)
    run = opened.run
    if (opened.writer, opened.segment, run[-32:], digest(run.encode())[:16]) != named:
        what = f"OPEN names run {run}, writer {opened.writer}, segment {opened.segment}"
        yield damage("renamed", path, what, "give the file the name it was written under")


def _judge_series(seqs: _Seqs, runs: Mapping[RunRef, History]) -> Iterator[Finding]:
    for series, found in sorted(seqs.items()):
        path = f"{STORE}/{METRICS}: series {series}"
        forked = sorted(seq for seq, prefixes in found.items() if len(prefixes) > 1)
        if forked:
            what = f"frames {forked[0]}–{forked[-1]} exist twice: a restored machine went on writing"
            yield damage("fork", path, what, "both are kept; check the runs concerned")
        missing = sorted(set(range(max(found) + 1)) - found.keys())
        is_beginning = missing == [*range(min(found))]
        if missing and not (is_beginning and _is_purged(series, runs)):
            what = f"frames {missing[0]}–{missing[-1]} are not here: a segment was not copied"
            yield incomplete("gap", path, what, "copy the tree again")


def _is_purged(series: str, runs: Mapping[RunRef, History]) -> bool:
    """True if metrics of the series' run were given up: a process that goes on with it begins behind them."""
    stem = f"{series.rpartition('-')[0]}-"
    return any(
        series_stem(ref).endswith(stem) and any(isinstance(event, Purged) for event in history.values())
        for ref, history in runs.items()
    )


def iter_steps(store_fd: int) -> Iterator[Step]:
    """Publish what dead writers left, and drop what sealed segments hide."""
    me, now_s = host.this_process(), host.now_ms() / 1000
    with _opened(store_fd) as metrics_fd:
        files = [] if metrics_fd is None else list_all(metrics_fd)
        counting, hidden = segments.choose(files)
        for place in counting:
            if metrics_fd is not None and segments.is_left_behind(metrics_fd, place, me, now_s, OF_METRICS):
                what = "publish what its writer, who is gone, left"
                yield Mend("journal", _shown(place), what), partial(_publish, store_fd, place, me, now_s)
        for ghost in hidden:
            if metrics_fd is not None and _is_hidden_by_sound(metrics_fd, ghost, files):
                what = "drop it: the sealed segment of the same series and number holds it"
                yield Mend("ghost", _shown(ghost), what), partial(_unlink, store_fd, [ghost, *files])


def _is_hidden_by_sound(metrics_fd: int, ghost: SegmentFile, files: list[SegmentFile]) -> bool:
    sealed = [file for file in files if file.owner == ghost.owner and file.name.kind == "seg"]
    read = (segments.read_segment(metrics_fd, file, sort=OF_METRICS) for file in sealed)
    return any(segment is not None and not segment.damage for segment in read)


def _publish(store_fd: int, place: SegmentFile, me: host.Host, now_s: float) -> None:
    with _opened(store_fd) as metrics_fd:
        if metrics_fd is not None:
            segments.publish_dead(metrics_fd, place, me, now_s, OF_METRICS)


def _unlink(store_fd: int, files: list[SegmentFile]) -> None:
    with _opened(store_fd) as metrics_fd:
        if metrics_fd is not None:
            ghost = files[0]
            segments.unlink_ghosts(metrics_fd, [f for f in files if f.owner == ghost.owner], OF_METRICS)
