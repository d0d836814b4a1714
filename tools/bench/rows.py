"""W6 in one process: 100,000 rows of three numbers logged, and read, by us and by the floors.

Each logs the same rows: a step, the time, loss, accuracy and learning rate.
"""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from tools.bench.workload import Figures, timed
from tracker._disk import host
from tracker.metrics import Recorders, read_run, series_of
from tracker.terms import AttemptId, RunRef, WriterId

RUN = RunRef("train/" + "ab" * 16)
NAMES = ("loss", "acc", "lr")


def values(rows: int) -> Iterator[tuple[float, float, float]]:
    """Numbers that no format can make short: sums of thirds and sevenths."""
    for step in range(rows):
        yield 3.0 / (step + 7), 1 - 1 / (step + 3), 0.1 * (1 + step % 7)


def log_packed(root: str, rows: int) -> Figures:
    """The least: bytes of a row appended to a buffered file."""
    numbers = list(values(rows))
    pack, now = struct.Struct("<qq3d").pack, time.time_ns

    def work() -> int:
        with open(_file(root), "wb") as file:
            for step, row in enumerate(numbers):
                file.write(pack(step, now(), *row))
        return os.path.getsize(_file(root))

    return timed(work)


def log_lines(root: str, rows: int) -> Figures:
    """A line of JSON a row."""
    numbers = list(values(rows))

    def work() -> int:
        with open(_file(root), "w", encoding="ascii") as file:
            for step, (loss, acc, lr) in enumerate(numbers):
                row = {"step": step, "time": time.time(), "loss": loss, "acc": acc, "lr": lr}
                file.write(json.dumps(row) + "\n")
        return os.path.getsize(_file(root))

    return timed(work)


def log_ours(root: str, rows: int) -> Figures:
    """`log` for each row, and the end of the attempt: flushed, sealed, synced, with a summary."""
    numbers = list(values(rows))
    mine = Recorders(_store(root), _writer(), host.this_process(), "bench")

    def work() -> int:
        log = mine.recorder(RUN, AttemptId("bench-1")).log
        for loss, acc, lr in numbers:
            log({"loss": loss, "acc": acc, "lr": lr})
        mine.finish(RUN)
        return sum(path.stat().st_size for path in Path(root).rglob("*.seg"))

    return timed(work)


def read_ours(root: str) -> Figures:
    """Every curve as arrays; the answer is how many numbers that is. NumPy is loaded before."""
    store_fd = _store(root)
    series_of(read_run(store_fd, RUN).curve("loss"))

    def work() -> int:
        found = read_run(store_fd, RUN)
        return sum(len(series_of(found.curve(name))) for name in NAMES)

    return timed(work)


def read_lines(root: str) -> Figures:
    """The lines parsed, into a list for each metric."""

    def work() -> int:
        columns: dict[str, list[float]] = {name: [] for name in NAMES}
        with open(_file(root), encoding="ascii") as file:
            for line in file:
                row = json.loads(line)
                for name in NAMES:
                    columns[name].append(row[name])
        return sum(map(len, columns.values()))

    return timed(work)


def _file(root: str) -> str:
    os.makedirs(root, exist_ok=True)
    return os.path.join(root, "rows")


def _store(root: str) -> int:
    os.makedirs(f"{root}/.tracker", exist_ok=True)
    return os.open(f"{root}/.tracker", os.O_RDONLY)


def _writer() -> WriterId:
    return WriterId(host.new_writer_id(host.now_ms(), os.urandom(10)))
