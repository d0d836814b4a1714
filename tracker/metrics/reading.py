"""The metrics of a run as its files tell them: curves by name, from all ranks and attempts.

Reads; writes nothing. What is damaged is named, and what is good counts.

Spec: spec/metrics.md section 5.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tracker._codec.frame import Frame, FrameType
from tracker._disk import durable
from tracker._model.names import METRICS, STORE
from tracker._model.rows import Block, SeriesOpened, decode_blocks
from tracker._store.measured import OF_METRICS, list_of_run, open_metrics
from tracker._store.segments import Segment, SegmentFile, read_chosen
from tracker.errors import NotFoundError, TrackerWarning
from tracker.metrics import curves
from tracker.metrics.curves import Curve
from tracker.metrics.summary import Summary, summary_of
from tracker.terms import AttemptId, RunRef

_LOOKS_MAX = 20


class _Logged(NamedTuple):
    """What one writer logged for one attempt: its frames in order, as blocks."""

    frames: list[list[Block]]
    is_of: dict[str, None]


class _Key(NamedTuple):
    attempt: AttemptId | None
    rank: int | None
    series: str


class RunMetrics:
    """All that is logged of a run. `damage` says what is wrong in its files.

    Cost: a curve is made when it is asked for, 50 ns a row.
    """

    def __init__(self, ref: RunRef) -> None:
        self.ref = ref
        self.damage: list[str] = []
        self._logged: dict[_Key, _Logged] = {}
        self._first: dict[_Key, tuple[int, str]] = {}

    @property
    def names(self) -> list[str]:
        """The metrics, in the order of first appearance."""
        return list(dict.fromkeys(name for _, logged in self._in_order() for name in logged.is_of))

    @property
    def attempts(self) -> list[AttemptId | None]:
        """The attempts that logged, in order."""
        return list(dict.fromkeys(key.attempt for key, _ in self._in_order()))

    def ranks(self, name: str) -> list[int | None]:
        """The ranks that logged a metric, the lowest first."""
        found = {key.rank for key, logged in self._logged.items() if name in logged.is_of}
        return sorted(found, key=_rank_order)

    def curve(self, name: str, *, rank: int | None = None, attempt: AttemptId | None = None) -> Curve:
        """The curve of a metric: of the lowest rank that logged it, through all attempts, or as asked.

        Raises: NotFoundError, naming what is like it.
        """
        asked = [
            (key, logged)
            for key, logged in self._in_order()
            if name in logged.is_of and (attempt is None or key.attempt == attempt)
        ]
        lowest = min((key.rank for key, _ in asked), key=_rank_order, default=None)
        rank = lowest if rank is None else rank
        asked = [(key, logged) for key, logged in asked if key.rank == rank]
        if not asked:
            raise self._not_found(name, rank, attempt)
        attempts = dict.fromkeys(key.attempt for key, _ in asked)
        pieces = [
            curves.joined(_iter_pieces(name, (logged for key, logged in asked if key.attempt == one)))
            for one in attempts
        ]
        return curves.joined(curves.iter_going_on(pieces))

    def summaries(self) -> dict[str, Summary]:
        """What is said of each metric in short. Spec: spec/metrics.md section 6."""
        return {name: summary_of(self.curve(name)) for name in self.names}

    def _not_found(self, name: str, rank: int | None, attempt: AttemptId | None) -> NotFoundError:
        known = self.names
        what = f"metric {name!r}"
        if name in known:
            what += f" of rank {rank}" if rank is not None else ""
            what += f" of attempt {attempt}" if attempt is not None else ""
            there = ", ".join(map(str, self.ranks(name)))
            return NotFoundError(what, f"run {self.ref}", f"it was logged by rank {there}")
        near = curves.nearest(name, known) or known[:5]
        cure = f"it has {', '.join(map(repr, near))}" if near else "it logged none"
        return NotFoundError(what, f"run {self.ref}", cure)

    def _in_order(self) -> list[tuple[_Key, _Logged]]:
        """Attempts in the order of their first frames, and within each its series in the same order."""
        least: dict[AttemptId | None, tuple[int, str]] = {}
        for key, opened in self._first.items():
            least[key.attempt] = min(least.get(key.attempt, opened), opened)
        return sorted(
            self._logged.items(),
            key=lambda item: (least[item[0].attempt], item[0].attempt or "", self._first[item[0]]),
        )

    def _note_first(self, key: _Key, frames: list[Frame]) -> None:
        """Remember when a series began, for the order among attempts."""
        if frames:
            first = frames[0].clock, key.series
            self._first[key] = min(self._first.get(key, first), first)

    def _take(self, key: _Key, frames: list[Frame]) -> None:
        logged = _Logged([], {})
        for frame in frames:
            blocks, wrong = decode_blocks(frame.payload)
            logged.frames.append(blocks)
            logged.is_of.update(dict.fromkeys(name for block in blocks for name in block.names))
            self.damage += [f"series {key.series}, seq {frame.seq}: {what}" for what in wrong]
        if frames:
            self._logged[key] = logged


def _rank_order(rank: int | None) -> int:
    return -1 if rank is None else rank


def _iter_pieces(name: str, series: Iterable[_Logged]) -> Iterator[Curve]:
    """The rows that have a name, frame by frame."""
    for logged in series:
        for frame in logged.frames:
            having = [(block, block.names.index(name)) for block in frame if name in block.names]
            if len(having) == 1:
                block, at = having[0]
                yield Curve(block.steps, block.columns[at], block.times)
            elif having:
                yield curves.interleaved(having)


def read_run(store_fd: int, ref: RunRef, *, verify: bool = True) -> RunMetrics:
    """Read all that is logged of a run; `store_fd` is a descriptor of `.tracker`.

    Rows that were flushed are there; torn tails are no error; damage is in `damage`, and what is good counts.

    Cost: one read and one BLAKE3 pass, and 10 to 40 ns a number. Raises: VersionError; StorageError.
    """
    metrics_fd = open_metrics(store_fd)
    if metrics_fd is None:
        return RunMetrics(ref)
    try:
        for _ in range(_LOOKS_MAX):
            files = list_of_run(metrics_fd, ref)
            found = _read_files(metrics_fd, ref, files, verify=verify)
            if list_of_run(metrics_fd, ref) == files:  # else one may have been missed as it was sealed
                break
        return found
    finally:
        durable.close_read(metrics_fd)


def read_warned(store_fd: int, ref: RunRef) -> RunMetrics:
    """`read_run`, with a TrackerWarning for what is damaged."""
    found = read_run(store_fd, ref)
    for line in found.damage:
        warnings.warn(f"metrics of {ref}: {line}; `tracker verify` tells more", TrackerWarning, stacklevel=3)
    return found


def _read_files(metrics_fd: int, ref: RunRef, files: list[SegmentFile], *, verify: bool) -> RunMetrics:
    found = RunMetrics(ref)
    frames: dict[_Key, dict[tuple[int, bytes], Frame]] = {}
    salvaged: list[tuple[_Key, Frame]] = []
    for segment in read_chosen(metrics_fd, files, verify=verify, sort=OF_METRICS):
        path = f"{STORE}/{METRICS}/{segment.place.path}"
        if segment.damage:
            found.damage.append(f"{path}: byte {segment.scan.end}: {segment.damage}")
        if isinstance(segment.opened, SeriesOpened) and segment.opened.run != ref:
            found.damage.append(f"{path}: it is of run {segment.opened.run}")
            continue
        key = _key_of(segment)
        found._note_first(key, [*segment.scan.frames, *segment.scan.salvaged])
        frames.setdefault(key, {}).update(((f.seq, f.prefix), f) for f in segment.scan.frames if _has_rows(f))
        salvaged += [(key, frame) for frame in segment.scan.salvaged if _has_rows(frame)]
    for key, frame in salvaged:
        _add_salvaged(frames[key], frame)
    for key, by_place in frames.items():
        found._take(key, [by_place[place] for place in sorted(by_place)])
    return found


def _key_of(segment: Segment) -> _Key:
    """Attempt, rank and series; the first two nil where OPEN does not read."""
    opened = segment.opened if isinstance(segment.opened, SeriesOpened) else None
    if opened is None:
        return _Key(None, None, segment.place.name.writer)
    return _Key(opened.attempt, opened.rank, segment.place.name.writer)


def _has_rows(frame: Frame) -> bool:
    return frame.type == FrameType.ROWS


def _add_salvaged(known: dict[tuple[int, bytes], Frame], frame: Frame) -> None:
    """A frame behind damage counts, but for one that is the same as another up to its prefix hash."""
    twins = (other for (seq, _), other in known.items() if seq == frame.seq)
    if not any(other.clock == frame.clock and other.payload == frame.payload for other in twins):
        known[frame.seq, frame.prefix] = frame
