"""Probes of bytes: appended by one process and by two; and of locks.

Spec: spec/layout.md sections 7 and 8.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable

from tracker._disk import durable
from tracker.doctor.report import Reading, Verdict, reading
from tracker.doctor.rivals import RivalError, race, rivals
from tracker.doctor.scratch import Scratch

FRAMES = 50
LINES = 400


def own_append(scratch: Scratch) -> Reading:
    """Whether what one process appends is there for a reader at once, and whole."""
    fd = durable.open_new("journal", scratch.fd)
    late = 0
    try:
        whole = b""
        for number in range(FRAMES):
            frame = bytes([number]) * 300
            durable.write_all(fd, frame)
            whole += frame
            late += durable.read_file("journal", scratch.fd) != whole
            late += durable.stat_at("journal", scratch.fd).st_size != len(whole)
    finally:
        os.close(fd)
    measured = f"{FRAMES} appends, {late} times a reader saw other bytes or another size"
    return reading(late == 0, Verdict.UNFIT, measured, appends=FRAMES, late=late)


def shared_append(scratch: Scratch) -> Reading:
    """Whether lines that two processes append to one file stay whole."""
    told = race("append", scratch.path, LINES)
    errors = [one["error"] for one in told if "error" in one]
    if errors:
        return Reading(Verdict.DEGRADED, f"refused to one of two processes: {errors[0]}")
    found = durable.read_file("lines", scratch.fd).splitlines()
    wanted = {f"{me} {number:05} {'x' * 100}".encode() for me in "ab" for number in range(LINES)}
    lost, torn = len(wanted - set(found)), len([line for line in found if line not in wanted])
    measured = f"{len(wanted)} lines by two processes: {lost} lost, {torn} torn"
    return reading(lost + torn == 0, Verdict.DEGRADED, measured, lines=len(wanted), lost=lost, torn=torn)


def locks(scratch: Scratch) -> Reading:
    """What flock and lockf exclude: another descriptor of this process, and another process.

    By POSIX lockf excludes no descriptor of the same process; that is no fault.
    """
    durable.create("lock", b"", scratch.fd, mode=0o600)
    found = {
        f"{name} {who}": try_lock(scratch, kind)
        for name, kind in (("flock", fcntl.flock), ("lockf", fcntl.lockf))
        for who, try_lock in (("descriptors", _between_descriptors), ("processes", _between_processes))
    }
    wanted = ("flock descriptors", "flock processes", "lockf processes")
    measured = "; ".join(f"{what}: {outcome}" for what, outcome in found.items())
    holds = all(found[what] == EXCLUDED for what in wanted)
    return reading(holds, Verdict.DEGRADED, measured, **{k.replace(" ", "_"): v for k, v in found.items()})


EXCLUDED = "excluded"

Lock = Callable[[int, int], None]


def _between_descriptors(scratch: Scratch, lock: Lock) -> str:
    return _held(scratch, lock, lambda: _is_refused(scratch, lock))


def _is_refused(scratch: Scratch, lock: Lock) -> bool:
    fd = os.open("lock", os.O_RDWR | os.O_CLOEXEC, dir_fd=scratch.fd)
    try:
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _between_processes(scratch: Scratch, lock: Lock) -> str:
    with rivals(lock.__name__, scratch.path, "r", 0) as (rival,):

        def is_refused() -> bool:
            rival.begin()
            told = rival.end()
            if "error" in told:
                raise RivalError(f"{told['error']} in the second process")
            return not told["got"]

        return _held(scratch, lock, is_refused)


def _held(scratch: Scratch, lock: Lock, is_refused: Callable[[], bool]) -> str:
    """Hold the lock and say what that means to another who tries."""
    fd = os.open("lock", os.O_RDWR | os.O_CLOEXEC, dir_fd=scratch.fd)
    try:
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return EXCLUDED if is_refused() else "not excluded"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    finally:
        os.close(fd)
