"""One program run beside this process, bounded in time and in bytes. Knows nothing of what it says.

It is spawned without a fork of this process, so no lock of another thread is copied, and nothing has to be
imported for it.

LIMIT: a program that waits for any of its children (`os.wait()`) may be given one of these.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from typing import NamedTuple


class Answer(NamedTuple):
    """What a program wrote, and how it ended."""

    code: int | None
    """Its exit code, that of a signal below zero; None if it was ended here, or cannot be known."""
    out: bytes
    err: bytes
    cut: str = ""
    """Why it was ended: `time`, `size`, or "" if it ended by itself."""


def find_program(name: str, search: str) -> str | None:
    """The absolute path of a program in the folders that `search` names, as PATH does.

    A relative folder is passed over: what lies in the working directory is never run.
    """
    for folder in search.split(os.pathsep):
        path = os.path.join(folder, name)
        if os.path.isabs(folder) and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def run(
    program: list[str], environment: Mapping[str, str], *, timeout_s: float, limit: int = 1 << 20
) -> Answer:
    """Run a program, whose path is absolute, without input. What is over a bound ends it.

    Raises: OSError if it cannot be started; ValueError for a word that holds U+0000.
    """
    assert os.path.isabs(program[0]), "a name is looked for by find_program"
    deadline = time.monotonic() + timeout_s
    out, out_end = os.pipe()
    err, err_end = os.pipe()
    try:
        try:
            pid = _spawn(program, environment, out_end, err_end)
        finally:
            os.close(out_end)
            os.close(err_end)
        return _listen(_Child(pid), out, err, deadline, limit)
    finally:
        os.close(out)
        os.close(err)


def _spawn(program: list[str], environment: Mapping[str, str], out: int, err: int) -> int:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_DUP2, err, 2),
    ]
    given_back = [signal.SIGPIPE, signal.SIGXFSZ]  # Python ignores them, and a program would inherit that
    return os.posix_spawn(
        program[0], program, environment, file_actions=actions, setsigdef=given_back, setsigmask=[]
    )


class _Child:
    """A child process, and its end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.is_over = False
        self.code: int | None = None

    def look(self, *, wait: bool) -> bool:
        """True once it has ended."""
        if not self.is_over:
            try:
                pid, status = os.waitpid(self._pid, 0 if wait else os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for all children, or ignores SIGCHLD
                self.is_over = True
                return True
            if pid:
                self.is_over, self.code = True, os.waitstatus_to_exitcode(status)
        return self.is_over

    def end(self) -> None:
        """End it by force, unless it has ended."""
        if not self.look(wait=False):
            os.kill(self._pid, signal.SIGKILL)
            self.look(wait=True)


def _listen(child: _Child, out: int, err: int, deadline: float, limit: int) -> Answer:
    """Read both pipes until the child has ended, or is over a bound and is ended."""
    said = {out: bytearray(), err: bytearray()}
    poller, waiting = select.poll(), {out, err}
    for fd in waiting:
        poller.register(fd, select.POLLIN)
    cut = ""
    try:
        while waiting or not child.is_over:
            child.look(wait=False)
            # A process forked meanwhile may hold the other ends of the pipes for long: once the child
            # is over, what lies in them is all.
            ready = poller.poll(_PAUSE_MS if waiting and not child.is_over else 1)
            for fd, _ in ready:
                data = os.read(fd, 1 << 18)
                said[fd] += data
                if not data:
                    poller.unregister(fd)
                    waiting.discard(fd)
            if child.is_over and not ready:
                break
            if max(map(len, said.values())) > limit:
                cut = "size"
            elif time.monotonic() > deadline:
                cut = "time"
            if cut:
                break
    finally:
        child.end()
    return Answer(None if cut else child.code, bytes(said[out]), bytes(said[err]), cut)


_PAUSE_MS = 20
