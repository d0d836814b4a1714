"""Standard output and error of this process, of its C code and its children, into a file and where they went.

Descriptors 1 and 2 are replaced; a process beside this one (the pump) passes on what is written, at once, and
keeps it. Whatever becomes of the file, what the user prints is printed.

LIMIT: a process that this one started and that outlives it loses its standard output if it also outlives the
pump, which ends when nobody writes any more; a worker that was started in one run and goes on in the next
writes to the terminal, and to no file. Cursor movements other than a carriage return are kept as bytes.

Spec: spec/output.md.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NamedTuple

from tracker._disk.durable import as_storage_error
from tracker.errors import StateError
from tracker.tee import channels, pump
from tracker.tee.channels import STANDARD, Channel, Original
from tracker.tee.streams import Wraps, are_all_standard, flush_streams

OUTPUT = "output.log"
"""The name of the file among those of a run."""

LIMIT_BYTES = 10 * 1024 * 1024
LEAST_BYTES = 4096
STOP_S = 15.0
"""So long a stop waits for a terminal that takes nothing; the pump then ends by itself."""

_PUMP = os.path.abspath(pump.__file__)


class Report(NamedTuple):
    """What was kept: the size of the file, how much was left out of it, and why nothing more was kept."""

    bytes_kept: int
    bytes_dropped: int
    fault: str | None


_NOTHING = Report(0, 0, None)


def start(place: str | os.PathLike[str], *, run: str = "", limit_bytes: int = LIMIT_BYTES) -> Tee:
    """Capture from here on, into the file `place`, which is continued if it is there. Its folder must exist.

    Captures of one thread may lie within each other: each keeps all that is printed while it lasts.

    Raises: StateError where another thread captures already; StorageError; ValueError for a limit below
    4 KiB. Nothing is changed then. Cost: 1 ms, and 15 ms of another core, which are waited for where output
    and error lead to two places.
    """
    if limit_bytes < LEAST_BYTES:
        raise ValueError(f"limit_bytes={limit_bytes}: at least {LEAST_BYTES} are needed")
    with _lock:
        for other in _active:
            if other.thread != threading.get_ident():
                raise StateError(
                    run or os.fspath(place),
                    "pending",
                    f"its output cannot be told from that of {other.run}, which another thread captures",
                    "capture one at a time in a process, or start this one without",
                )
        if not sys.executable or getattr(sys, "frozen", False):
            raise StateError(run, "pending", "output is captured by a second Python", "start it without")
        folder, name = os.path.split(os.path.abspath(os.fspath(place)))
        try:
            tee = Tee(run, folder, name, limit_bytes)
        except OSError as error:
            raise as_storage_error(error, os.fspath(place), "capture output in") from error
        _active.append(tee)
    return tee


_lock = threading.Lock()
_active: list[Tee] = []
"""Those that capture, outermost first."""


class Tee:
    """One capture. Made by `start`."""

    def __init__(self, run: str, folder: str, name: str, limit_bytes: int) -> None:
        self.run = run or os.path.join(folder, name)
        self.thread = threading.get_ident()
        self._originals = [channels.original(number) for number in STANDARD]
        self._channels: list[Channel] = []
        self._report = _NOTHING
        self._lingers = True
        self._is_below = False
        self._reported = threading.Event()
        self._drained = threading.Event()
        self._ended = threading.Event()
        self._below: list[Tee] = []
        try:
            self._channels = channels.open_channels(self._originals)
            wrap_fd = self._open_extra()
            ends = _spawn(folder, name, limit_bytes, self._originals, self._channels)
        except BaseException:
            self._close_ends()
            self._close_originals()
            raise
        self._pid, self._control, self._status = ends
        self._watch = threading.Thread(target=self._listen, name="tracker-tee", daemon=True)
        self._watch.start()
        if len(self._channels) > 1:
            self._drain()  # once the pump reads, what comes by several ways is kept in its order
        # from here on nothing is refused: two descriptors are replaced
        flush_streams()
        for channel in self._channels:
            for number in channel.numbers:
                os.dup2(channel.write, number)
        self._wraps = Wraps(wrap_fd)
        self._wraps.put_on()

    def _open_extra(self) -> int:
        """A channel for streams that write elsewhere than to 1 and 2."""
        if are_all_standard():
            return -1
        read, write = channels.open_pipe()
        self._channels.append(Channel(read, write, (), pump.NOWHERE))
        return write

    def stop(self) -> Report:
        """Make descriptors 1 and 2 what they were, wait until all that was written is kept, and tell.

        A child that still holds the other end is not waited for: what it writes from here on is passed on and
        not kept. Does nothing the second time, and in a forked child.

        Raises: nothing. Cost: 1 ms, or what a slow terminal takes.
        """
        with _lock:
            if self not in _active:
                return self._report
            self._give_back()
        self._ask(pump.STOP)
        self._reported.wait(STOP_S)
        for lower in self._below:
            lower._drain()  # what was passed on to it goes on to where we print again
            channels.close_all(lower._control)
        self._let_go()
        if not self._lingers:
            self._watch.join(STOP_S)
        return self._report

    def _ask(self, word: bytes) -> None:
        with suppress(OSError):  # the pump is gone, which `_listen` tells
            os.write(self._control, word)

    def _drain(self) -> None:
        """Wait until all that was written has been passed on."""
        self._drained.clear()
        if not self._ended.is_set():
            self._ask(pump.DRAIN)
            self._drained.wait(STOP_S)

    def _give_back(self) -> None:
        """Restore, and let go of the ends that are written to. One below in the pile only leaves it."""
        flush_streams()
        self._wraps.take_off()
        place = _active.index(self)
        for above in reversed(_active[place + 1 :]):
            above._drain()
        if place == len(_active) - 1:
            for one in self._originals:
                one.put_back()
        else:
            above = _active[place + 1]  # it goes on writing to our channels, and ends where we began
            above._originals, self._originals = self._originals, above._originals
            above._below += [self, *self._below]
            self._below = []
            self._is_below = True
        del _active[place]
        channels.close_all(*(channel.write for channel in self._channels))

    def _listen(self) -> None:
        """Hear what the pump reports, and that it has ended: before its time if somebody killed it."""
        with open(self._status, encoding="utf-8") as answers:
            for line in answers:
                if line != "\n":
                    held, kept, dropped, fault = line.rstrip("\n").split(" ", 3)
                    self._report = Report(int(kept), int(dropped), fault or None)
                    self._lingers = int(held) > 0
                    self._reported.set()
                self._drained.set()
        self._ended.set()
        self._drained.set()
        with suppress(ChildProcessError):  # a program that ignores SIGCHLD
            os.waitpid(self._pid, 0)
        if not self._reported.is_set():
            self._go_on_without()

    def _go_on_without(self) -> None:
        """The pump was killed: go back to the originals, and print what it has not passed on."""
        self._report = Report(0, 0, "the process that kept it ended")
        self._lingers = False
        with _lock:
            is_ours = self in _active  # else stop() waits, and lets go
            targets = {one.number: one.fd for one in self._originals}
            if is_ours:
                self._give_back()
            for channel in self._channels:
                _pass_rest_on(channel.read, targets.get(channel.target, -1))
            pump.pass_on(
                2,
                f"tracker: warning: output of {self.run} is no longer kept: the process that"
                " kept it ended\n".encode("utf-8", "backslashreplace"),
            )
            if is_ours:
                self._let_go()
        self._reported.set()

    def _let_go(self) -> None:
        channels.close_all(*(channel.read for channel in self._channels))
        if not self._is_below:
            channels.close_all(self._control)
        self._close_originals()

    def _close_ends(self) -> None:
        for channel in self._channels:
            channels.close_all(channel.read, channel.write)

    def _close_originals(self) -> None:
        for one in self._originals:
            one.close()


def _pass_rest_on(read: int, target: int) -> None:
    """What lies in a channel that nobody else reads. Waits for nothing."""
    os.set_blocking(read, False)
    with suppress(OSError):  # EAGAIN: it is empty; EIO: a pseudo-terminal is
        while chunk := os.read(read, 1 << 16):
            if target >= 0:
                pump.pass_on(target, chunk)


def _spawn(
    folder: str, name: str, limit_bytes: int, originals: list[Original], opened: list[Channel]
) -> tuple[int, int, int]:
    """Start the pump; give its process id, where it is told to stop, and where it reports."""
    folder_fd = channels.high(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    control_read, control_write = channels.open_pipe()
    status_read, status_write = channels.open_pipe()
    moves: list[tuple[int, int]] = [(one.fd, one.number) for one in originals if one.fd >= 0]
    moves += [(control_read, pump.CONTROL), (status_write, pump.STATUS)]
    moves += [(channel.read, pump.FIRST_CHANNEL + place) for place, channel in enumerate(opened)]
    nowhere = [0, *(one.number for one in originals if one.fd < 0)]
    actions = [
        (os.POSIX_SPAWN_DUP2, folder_fd, pump.FOLDER),
        *((os.POSIX_SPAWN_DUP2, fd, number) for fd, number in moves),
        *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in nowhere),
    ]
    targets = [str(channel.target) for channel in opened]
    line = [sys.executable, "-I", "-S", _PUMP, name, str(limit_bytes), *targets]
    try:
        # made here, so that a place that cannot be written to is refused before anything is changed
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder_fd)
        os.close(made)
        pid = os.posix_spawn(sys.executable, line, os.environ, file_actions=actions)
    except BaseException:
        channels.close_all(control_write, status_read)
        raise
    finally:
        channels.close_all(folder_fd, control_read, status_write)
    return pid, control_write, status_read


def _stop_all() -> None:
    for tee in reversed(tuple(_active)):
        tee.stop()


def _forget_all() -> None:
    """A forked child goes on writing to the channels of its parent; they are not its own to stop."""
    global _lock
    _lock = threading.Lock()
    _active.clear()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_forget_all)
