"""What stands in for standard output and error: a pipe, or a pseudo-terminal for a terminal.

Knows descriptors alone. All that it makes lies above those that a program may count on, closed on exec.
"""

from __future__ import annotations

import fcntl
import os
import termios
from typing import NamedTuple

STANDARD = (1, 2)

_FLOOR = 32
"""Descriptors of ours begin here."""

_PIPE_BYTES = 1 << 20


class Original(NamedTuple):
    """A standard descriptor as it was: a second one of the same open file, or -1 where it was closed."""

    number: int
    fd: int
    is_inherited: bool

    def put_back(self) -> None:
        """Make the standard descriptor what it was."""
        if self.fd < 0:
            os.close(self.number)
        else:
            os.dup2(self.fd, self.number, inheritable=self.is_inherited)

    def close(self) -> None:
        """Let go of the second one."""
        if self.fd >= 0:
            os.close(self.fd)


class Channel(NamedTuple):
    """A way to the pump: what is written to `write` is read from `read` and passed on to `target`."""

    read: int
    write: int
    numbers: tuple[int, ...]
    target: int


def original(number: int) -> Original:
    """Keep what a standard descriptor is."""
    try:
        fd = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FLOOR)
    except OSError:  # EBADF: the shell closed it
        return Original(number, -1, True)
    return Original(number, fd, os.get_inheritable(number))


def open_channels(originals: list[Original]) -> list[Channel]:
    """One channel for each original; one for both where they are one file, so that their order is exact."""
    first, second = originals
    if _is_same(first.fd, second.fd):
        return [_channel(first, STANDARD)]
    made: list[Channel] = []
    try:
        for one in originals:
            made.append(_channel(one, (one.number,)))  # noqa: PERF401 - what was made is closed when one fails
    except BaseException:
        for channel in made:
            close_all(channel.read, channel.write)
        raise
    return made


def open_pipe() -> tuple[int, int]:
    """The two ends of a pipe, high up."""
    read, write = os.pipe()
    return high(read), high(write)


def close_all(*fds: int) -> None:
    """Close those that are open."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def _is_same(first: int, second: int) -> bool:
    return first >= 0 and second >= 0 and os.path.samestat(os.fstat(first), os.fstat(second))


def _channel(one: Original, numbers: tuple[int, ...]) -> Channel:
    if one.fd >= 0 and os.isatty(one.fd):
        read, write = _open_terminal(one.fd)
    else:
        read, write = open_pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            _widen(write)
    return Channel(read, write, numbers, 0 if one.fd < 0 else one.number)


def _widen(fd: int) -> None:
    """Let a writer run ahead. A system that allows no more than it gave is well enough."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return


def _open_terminal(real: int) -> tuple[int, int]:
    """One as large as the real one, that passes on each byte as it is: the real one adds its returns."""
    read, write = os.openpty()
    settings = termios.tcgetattr(write)
    settings[1] &= ~termios.OPOST
    settings[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG)
    termios.tcsetattr(write, termios.TCSANOW, settings)
    size = fcntl.ioctl(real, termios.TIOCGWINSZ, b"\0" * 8)
    fcntl.ioctl(write, termios.TIOCSWINSZ, size)
    return high(read), high(write)


def high(fd: int) -> int:
    """Move a descriptor of ours above those that a program may count on."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FLOOR)
    os.close(fd)
    return moved
