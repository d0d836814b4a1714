"""Probes of time: the time stamps that the file server sets, and what bringing bytes to its disk costs.

Spec: spec/layout.md section 8; spec/claims.md section 5; spec/log.md sections 5 and 8.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from statistics import median

from tracker._disk import durable
from tracker.doctor.report import Reading, Verdict, reading
from tracker.doctor.scratch import Scratch

STEPS = 5
STEPS_WITHIN_S = 0.5
A_STEP_WITHIN_S = 5.0
STEP_MAX_S = 1.0
"""A coarser time stamp than this is told of; a heartbeat needs one step a minute."""

OFFSET_MAX_S = 60.0
SYNCS = 11
SYNCS_WITHIN_S = 2.0
SLOW_S = 0.1

CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What `durable` takes for a folder that need not be synced."""


def heartbeat(scratch: Scratch) -> Reading:
    """Whether utime's "now" moves the modification time, in which steps, and by whose clock."""
    durable.create("beat", b"", scratch.fd, mode=0o600)
    fd = durable.open_file_fd("beat", scratch.fd)
    try:
        offset_s = _offset_s(fd)
        step_s = _step_s(fd)
    finally:
        durable.close_read(fd)
    if step_s is None:
        measured = f"utime's now did not move the time stamp within {A_STEP_WITHIN_S:.0f} s"
        return Reading(Verdict.UNFIT, measured, {"step_s": None, "offset_s": offset_s})
    off_s = 0.0 if abs(offset_s) <= max(step_s, 0.02) else offset_s
    apart = (
        f"{abs(off_s):.3g} s {'ahead of' if off_s > 0 else 'behind'} this host's" if off_s else "this host's"
    )
    measured = f"utime's now moves it, in steps of {_shown(step_s)} or less; the server's clock is {apart}"
    holds = step_s <= STEP_MAX_S and abs(off_s) <= OFFSET_MAX_S
    return reading(holds, Verdict.DEGRADED, measured, step_s=step_s, offset_s=offset_s)


def _offset_s(fd: int) -> float:
    before = time.time_ns()
    mtime_ns = durable.touch(fd).st_mtime_ns
    return (mtime_ns - (before + time.time_ns()) // 2) / 1e9


def _step_s(fd: int) -> float | None:
    """The least distance of two time stamps that differ; None if none does."""
    begin = time.monotonic()
    last = durable.touch(fd).st_mtime_ns
    steps: list[int] = []
    while len(steps) < STEPS:
        time.sleep(0.0005)
        now = durable.touch(fd).st_mtime_ns
        if now != last:
            steps.append(abs(now - last))
        last = now
        if time.monotonic() - begin > (STEPS_WITHIN_S if len(steps) > 1 else A_STEP_WITHIN_S):
            break
    # what lies between two calls is a step only of a finer clock: the first is seldom a whole one
    return min(steps) / 1e9 if steps else None


def sync_file(scratch: Scratch) -> Reading:
    """What fdatasync of appended bytes costs."""
    fd = durable.open_new("journal", scratch.fd)

    def sync() -> None:
        durable.write_all(fd, bytes(4096))
        _timed(lambda: durable.sync_data(fd), costs)

    costs: list[float] = []
    try:
        _repeat(sync)
    except OSError as error:
        return Reading(Verdict.UNFIT, f"refused: {error.strerror or error}", {"errno": error.errno})
    finally:
        os.close(fd)
    return _costs("4 KiB appended and synced", costs)


def sync_folder(scratch: Scratch) -> Reading:
    """What fsync of a folder with a fresh name costs, and whether it is to be had."""
    costs: list[float] = []

    def sync() -> None:
        durable.create(f"name{len(costs)}", b"", scratch.fd)
        _timed(lambda: os.fsync(scratch.fd), costs)

    try:
        _repeat(sync)
    except OSError as error:
        verdict = Verdict.DEGRADED if error.errno in CANNOT_SYNC else Verdict.UNFIT
        return Reading(verdict, f"refused: {error.strerror or error}", {"errno": error.errno})
    return _costs("a fresh name synced", costs)


def _timed(call: Callable[[], None], costs: list[float]) -> None:
    begin = time.perf_counter()
    call()
    costs.append(time.perf_counter() - begin)


def _repeat(call: Callable[[], None]) -> None:
    begin = time.monotonic()
    for _ in range(SYNCS):
        call()
        if time.monotonic() - begin > SYNCS_WITHIN_S:
            return


def _costs(what: str, costs: list[float]) -> Reading:
    middle, worst = median(costs), max(costs)
    measured = f"{what}: {_shown(middle)}, the slowest of {len(costs)} {_shown(worst)}"
    holds = middle <= SLOW_S
    return reading(holds, Verdict.DEGRADED, measured, median_s=middle, worst_s=worst, count=len(costs))


def _shown(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
