"""Other processes' live journals, read on as they grow.

Knows one file each and what it has read of it. The state of a tail is a part of the store's state; which
tails count, its owner decides.

Spec: spec/log.md section 4.
"""

from __future__ import annotations

import os

from tracker._codec import frame
from tracker._codec.frame import FrameType, Verdict
from tracker._disk import durable
from tracker._model.event import decode_events, decode_opened
from tracker._model.fold import State, absorb
from tracker._store.segments import SegmentFile, judge_segment
from tracker.errors import DamagedError
from tracker.terms import WriterId


class LiveTail:
    """A live journal as far as it has been read. `state` holds its events."""

    __slots__ = ("_seen", "_tail", "_writer", "clock", "place", "state")

    def __init__(self, place: SegmentFile) -> None:
        self.place = place
        self.state = State()
        self.clock = 0
        self._begin()

    def _begin(self) -> None:
        self.state = State()
        self._tail = frame.Tail()
        self._seen = (-1, -1, -1)
        self._writer = self.place.name.writer

    def has_moved(self, ledger_fd: int) -> bool:
        """True if the file differs from what was read. Cost: one stat."""
        seen = _stat(ledger_fd, self.place.path)
        return seen is None or (seen.st_size, seen.st_ino, seen.st_mtime_ns) != self._seen

    def read_on(self, ledger_fd: int) -> bool:
        """Read what was appended since; all of it, if the file was replaced. False if it is gone.

        Raises: VersionError; StorageError.
        Cost: 4 µs a new frame.
        """
        seen = _stat(ledger_fd, self.place.path)
        if seen is None:
            return False
        size, inode, mtime_ns = seen.st_size, seen.st_ino, seen.st_mtime_ns
        if inode != self._seen[1] or size < self._tail.end or size == self._seen[0]:
            self._begin()  # another file, or other bytes in place
        try:
            data = durable.read_from(self.place.path, ledger_fd, self._tail.end)
        except FileNotFoundError:
            return False
        self._seen = (size, inode, mtime_ns)
        result = frame.scan_on(data, self._tail)
        if result.verdict in (Verdict.DAMAGED, Verdict.NEWER):
            is_there = self._read_damaged(ledger_fd)
            self._seen = (size, inode, mtime_ns)
            return is_there
        self._take(result.frames, proven=True)
        return True

    def _read_damaged(self, ledger_fd: int) -> bool:
        self._begin()
        try:
            data = durable.read_file(self.place.path, ledger_fd)
        except FileNotFoundError:
            return False
        segment = judge_segment(data, self.place)
        self._writer = segment.writer
        self._take(segment.scan.frames, proven=True)
        self._take(segment.scan.salvaged, proven=False)
        return True

    def _take(self, frames: list[frame.Frame], *, proven: bool) -> None:
        for one in frames:
            self.clock = max(self.clock, one.clock)
            if one.type == FrameType.OPEN:
                self._writer = _writer_of(one, self._writer)
            if one.type == FrameType.EVENTS:
                absorb(
                    self.state, decode_events(one.payload), one.clock, self._writer, one.seq, proven=proven
                )


def _writer_of(opening: frame.Frame, otherwise: WriterId) -> WriterId:
    try:
        return decode_opened(opening.payload).writer
    except DamagedError:
        return otherwise


def _stat(ledger_fd: int, path: str) -> os.stat_result | None:
    try:
        return durable.stat_at(path, ledger_fd)
    except FileNotFoundError:
        return None
