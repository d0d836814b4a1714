"""Other processes that use the same folder as this one, at the same moment.

They are processes of their own and not forked children, which beside other threads would not be safe.

LIMIT: all of them are on this host, so they share its caches of a network file system; of two hosts nothing
is learnt here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tracker.doctor import rival
from tracker.errors import TrackerError

WAIT_S = 60.0

Told = dict[str, Any]


class RivalError(TrackerError, RuntimeError):
    """No second process could be had, so nothing was measured between two."""


class Rival:
    """One other process, ready to begin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None, "it was started with a pipe"
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except OSError as error:
            raise RivalError(f"the second process is gone: {error}") from error

    def is_over(self) -> bool:
        """True once it has ended."""
        return self._process.poll() is not None

    def end(self) -> Told:
        """Wait for what came of it. Raises: RivalError."""
        try:
            out, _ = self._process.communicate(timeout=WAIT_S)
        except subprocess.TimeoutExpired as error:
            raise RivalError(f"the second process did not end within {WAIT_S:.0f} s") from error
        try:
            told: Told = json.loads(out)
        except ValueError as error:
            raise RivalError(f"the second process ended with {self._process.returncode}") from error
        return told


@contextmanager
def rivals(task: str, folder: str, names: str, count: int) -> Iterator[list[Rival]]:
    """Have a process for each letter of `names`, ready for `task`; none is left when the block ends.

    Raises: RivalError where none can be started.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_process(task, folder, name, count)) for name in names]


@contextmanager
def _process(task: str, folder: str, name: str, count: int) -> Iterator[Rival]:
    command = [sys.executable, "-I", "-S", rival.__file__, task, folder, name, str(count)]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
    except OSError as error:
        raise RivalError(f"no second process of {sys.executable or 'Python'}: {error.strerror}") from error
    with process:
        assert process.stdout is not None, "it was started with a pipe"
        try:
            if process.stdout.readline() != "ready\n":
                raise RivalError("the second process did not begin")
            yield Rival(process)
        finally:
            if process.poll() is None:
                process.kill()


def race(task: str, folder: str, count: int, names: str = "ab") -> list[Told]:
    """Let processes do the same task in one folder at the same moment. Raises: RivalError."""
    with rivals(task, folder, names, count) as ready:
        for one in ready:
            one.begin()
        return [one.end() for one in ready]
