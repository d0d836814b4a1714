"""Rows as they are logged: gathered in memory, written as columns, a frame at a time.

Knows one attempt in one process. When it begins and ends is told above.

Spec: spec/metrics.md section 4.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from tracker._model.rows import Block, Column, column_of, encode_blocks
from tracker._store.measured import SeriesJournal
from tracker.errors import MetricError, StateError
from tracker.metrics.summary import Summary, Tally
from tracker.metrics.values import STEP_MAX, numbers_of, step_of, time_of
from tracker.terms import AttemptId

FLUSH_ROWS = 4096
FLUSH_CELLS = 1 << 18
FLUSH_MS = 5000
NAMES_MAX = 1 << 16
"""Of one row: their names fit a frame, whatever they are."""

RANK_VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")

_HEAD = 3
"""Of a row in memory: its place in the frame, its step, its time."""


def rank_of(environ: Mapping[str, str] = os.environ) -> int | None:
    """The number of this process among those that execute a run together. Spec: spec/metrics.md section 2."""
    for name in RANK_VARIABLES:
        text = environ.get(name, "")
        if text.isascii() and text.isdigit() and len(text) < 10:
            return int(text)
    return None


_now_ns = time.time_ns


class _Rows:
    """Rows of the same names, one after another in one list: head, then values."""

    __slots__ = ("flat", "names", "types", "weight", "width")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.width = _HEAD + len(names)
        self.weight = sum(map(len, names)) // 2  # of the names in a frame: 4 bytes a character, 8 a number
        self.flat: list[Any] = []
        self.types: list[type] = []  # of the last row that was looked at closely: plain ones


class _Frame(NamedTuple):
    """What was gathered and is to be written, or written again."""

    payload: bytes
    blocks: list[Block]
    """Their columns of floats are lists here: what a list holds is counted faster than what an array does."""
    rows: int


class Recorder:
    """The metrics of one attempt in this process. Safe for threads. Get it from `Recorders`."""

    def __init__(self, journal: SeriesJournal, attempt: AttemptId | None, rank: int | None) -> None:
        journal.about(attempt, rank)
        self.attempt = attempt
        self._journal = journal
        self._lock = threading.RLock()
        self._known: dict[tuple[str, ...], _Rows] = {}
        self._rows = 0
        self._rows_max = 0
        self._widest = 0
        self._weight = 0
        self._step = -1
        self._oldest_ms = self._due_ms = 0
        self._waiting: list[_Frame] = []
        self._tallies: dict[str, Tally] = {}
        self._counted = 0
        self._is_finished = False

    @property
    def is_finished(self) -> bool:
        """True once it takes no more rows: its attempt has ended, or was that of a parent process."""
        return self._is_finished

    def log(
        self,
        values: Mapping[str, Any],
        step: int | None = None,
        time_s: float | None = None,
        *,
        is_aside: bool = False,
    ) -> None:
        """Log one row: numbers by name, at `step`, which is one more than the last one's unless given.

        A row `is_aside` if its step is not what the next one counts on from. The row is in memory when this
        returns, and in the file at 4,096 rows, or at the first row that comes 5 s after the oldest, or by
        `flush`.

        Raises: MetricError for what is no number, no name or no step; StateError after the end; nothing of
        the row is kept then. StorageError when the disk refuses what was gathered; this row and all others
        stay, and are tried again after as many rows, or as long.
        Cost: 0.7 µs for three plain numbers, 1.5 µs with all that follows from it.
        """
        with self._lock:
            try:
                rows = self._known[tuple(values)]
                numbers: Any = values.values()
                if [*map(type, numbers)] != rows.types:
                    rows, numbers = self._rows_for(values)
            except (KeyError, TypeError, AttributeError):
                rows, numbers = self._rows_for(values)
            if step is None:
                step = self._step + 1
            elif type(step) is not int or not -STEP_MAX <= step <= STEP_MAX:
                step = step_of(step)
            now = _now_ns() // 1_000_000
            row = (self._rows, step, now if time_s is None else time_of(time_s), *numbers)
            if not rows.flat:
                self._begin(rows, now)
            rows.flat += row
            self._rows += 1
            if not is_aside:
                self._step = step
            if self._rows >= self._rows_max or not self._oldest_ms <= now < self._due_ms:
                self._flush(now)

    def _rows_for(self, values: Mapping[str, Any]) -> tuple[_Rows, Sequence[Any]]:
        """Rows for what was not logged so before, and its numbers. Raises: MetricError; StateError."""
        if self._is_finished:
            raise StateError(str(self.attempt), "ended", "its metrics are sealed", "log before done()")
        if not isinstance(values, Mapping):
            raise MetricError("", values, "it is no map", 'give names and numbers, as log({"loss": 0.3})')
        found = numbers_of(values)
        if len(found) > NAMES_MAX:
            raise MetricError("", len(found), f"a row has at most {NAMES_MAX} numbers", "log fewer at once")
        names = tuple(found)
        rows = self._known.get(names)
        if rows is None:
            if len(self._known) >= FLUSH_ROWS:  # names that come once: they are not kept for ever
                self._gather()
                self._known.clear()
            rows = self._known[names] = _Rows(names)
        rows.types = [*map(type, found.values())]
        return rows, tuple(found.values())

    def _begin(self, rows: _Rows, now_ms: int) -> None:
        """These are the first of their names in a frame: how many rows of whatever names it takes."""
        if self._rows == 0:
            self._widest = self._weight = 0
            if not self._waiting:
                self._wait_from(now_ms)
        self._widest = max(self._widest, rows.width)
        self._weight += rows.weight
        self._rows_max = min(FLUSH_ROWS, self._rows + 1 + max(0, FLUSH_CELLS - self._weight) // self._widest)

    def _wait_from(self, now_ms: int) -> None:
        self._oldest_ms, self._due_ms = now_ms, now_ms + FLUSH_MS

    def flush(self) -> None:
        """Write what was gathered. When this returns it survives kill -9; it is not synced.

        Cost: 0.7 µs for a row of three numbers, and one write. Raises: StorageError; the rows stay.
        """
        with self._lock:
            self._flush(_now_ns() // 1_000_000)
            if self._journal.is_adrift:  # a write failed, and what it wrote may be in memory alone
                self._journal.seal()

    def flush_due(self, now_ms: int) -> None:
        """Write what was gathered if the oldest of it is 5 s old. Raises: StorageError; the rows stay."""
        if (self._rows or self._waiting) and not self._oldest_ms <= now_ms < self._due_ms:
            with self._lock:
                self._flush(now_ms)

    def _flush(self, now_ms: int) -> None:
        """Crash states: those of an append; the frame is whole in the file, or readers ignore it.

        What may be read by others is not written again though the append failed: no row is recorded twice.
        """
        self._gather()
        self._wait_from(now_ms)  # if it fails, the next try is as long away
        while self._waiting:
            frame = self._waiting[0]
            try:
                self._journal.append(frame.payload)
            finally:
                if self._journal.has_taken:
                    del self._waiting[0]
                    self._count(frame)

    def _gather(self) -> None:
        """Make a frame of what is in memory as rows."""
        if self._rows == 0:
            return
        filled = [rows for rows in self._known.values() if rows.flat]
        is_one = len(filled) == 1
        blocks = [
            _block_of(rows, range(self._rows) if is_one else rows.flat[0 :: rows.width]) for rows in filled
        ]
        payload = encode_blocks([_packed(block) for block in blocks])
        self._waiting.append(_Frame(payload, blocks, self._rows))
        for rows in filled:
            rows.flat = []
        self._rows = 0

    def _count(self, frame: _Frame) -> None:
        places = range(self._counted, self._counted + frame.rows)
        for block in frame.blocks:
            own = places if len(block.rows) == frame.rows else [places[row] for row in block.rows]
            for name, column in zip(block.names, block.columns, strict=True):
                tally = self._tallies.get(name)
                if tally is None:
                    tally = self._tallies[name] = Tally()
                tally.take(column, block.steps, own)
        self._counted += frame.rows

    def seal(self) -> None:
        """Write what was gathered, and put all beyond a power cut under a sealed name.

        Raises: StorageError; the rows stay.
        """
        with self._lock:
            self._flush(_now_ns() // 1_000_000)
            self._journal.seal()

    def finish(self) -> dict[str, Summary]:
        """Seal, and take no more. The summary of what this recorder wrote, in the order of first appearance.

        Raises: StorageError; the rows stay, and the next call tries again.
        """
        with self._lock:
            self.seal()
            self._is_finished = True
            self._known = {}
            return {name: tally.summary() for name, tally in self._tallies.items()}

    def forget(self) -> None:
        """Drop what was gathered, without waiting for a thread: it is the process's from which we forked."""
        self._lock = threading.RLock()
        self._is_finished = True
        self._known, self._waiting, self._rows = {}, [], 0


def _block_of(rows: _Rows, places: Sequence[int]) -> Block:
    flat, width = rows.flat, rows.width
    columns = [_numbers(flat[at::width]) for at in range(_HEAD, width)]
    return Block(rows.names, places, flat[1::width], flat[2::width], columns)


def _numbers(values: list[Any]) -> Column:
    return values if set(map(type, values)) == {float} else column_of(values)


def _packed(block: Block) -> Block:
    columns = [column if isinstance(column, array) else column_of(column) for column in block.columns]
    return replace(block, columns=columns)
