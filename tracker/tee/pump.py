"""The process beside a captured one: passes on what that one writes, at once, and keeps it in a file.

It is a process and no thread, for two reasons. C code that prints while it holds the interpreter's lock
would wait for ever for a thread of its own process, once the pipe is full. And when the captured process is
killed, this one reads what is left in the pipe, to the last byte.

Run as a program with `-I -S`, so that it starts in 10 ms: it imports little of the standard library and
nothing of this package. Its descriptors have fixed numbers. It ends when nobody holds a write end.

Spec: spec/output.md.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import sys
import termios
import time

CONTROL, STATUS, FOLDER, FIRST_CHANNEL = 3, 4, 5, 6
"""The descriptors that it is given; the originals are its own standard output and error."""

STOP, DRAIN = b"stop", b"drain"
"""What CONTROL asks for. STATUS answers by a line: empty, or a report."""

NOWHERE = 0
"""The target of a channel that is kept and passed on to nobody."""

MARK = re.compile(rb"\[tracker: (\d+) bytes left out here\]\n")
"""The line that stands for what was left out."""

_MARK_MAX = 64
_SPARE = 4096
"""A cut is moved by at most so much, to the end of a line."""

_READ = 1 << 18
_RESIZE_MS = 250
_LINE_MS = 20
"""So long one channel waits for the end of its line, where there are several."""

_DRAIN_S = 2.0
"""So long a stop waits for a process that goes on writing without a pause."""


class Redraw:
    """What of a stream stays of lines that are drawn again with a carriage return: their last state.

    A return before a line feed is its own, as in CRLF. Pure.
    """

    def __init__(self) -> None:
        self._is_returned = False

    def feed(self, chunk: bytes) -> tuple[bool, bytes]:
        """True if the line that has begun is to be taken back; then what is to be written."""
        if not self._is_returned and b"\r" not in chunk:
            return False, chunk
        if self._is_returned:
            chunk = b"\r" + chunk
        body = chunk.rstrip(b"\r")
        self._is_returned = len(body) < len(chunk)
        lines = body.split(b"\n")
        takes_back = b"\r" in lines[0].rstrip(b"\r")
        return takes_back, b"\n".join(_last_state(line) for line in lines)


def _last_state(line: bytes) -> bytes:
    text = line.rstrip(b"\r")
    return text[text.rfind(b"\r") + 1 :] + line[len(text) :][:1]


class KeptFile:
    """The file: its first half, a line that says how much is left out, its last half.

    While it is written it has up to 1.5 times the limit. A file that is there is continued.

    Crash states: every byte is written where it belongs, at once. A file that grew too long is written anew,
    shorter, as `tmp-…` and renamed: the long one stands until the short one does.
    """

    def __init__(self, folder_fd: int, name: str, limit: int) -> None:
        self._folder_fd = folder_fd
        self._name = name
        self._half = (limit - _MARK_MAX) // 2
        self._redraw = Redraw()
        self.dropped = 0
        self.fault = ""
        self._fd = -1
        self._end = self._line = 0
        self._head = self._tail = self._half
        try:
            self._open()
        except OSError as error:
            self._give_up(error)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._name, flags, 0o666, dir_fd=self._folder_fd)
        self._end = os.fstat(self._fd).st_size
        if not self._end:
            return
        mark = MARK.search(os.pread(self._fd, self._half + _MARK_MAX, 0))
        if mark:
            self.dropped, self._head, self._tail = int(mark[1]), mark.start(), mark.end()
        feed = b"" if os.pread(self._fd, 1, self._end - 1) == b"\n" else b"\n"
        again = time.strftime("[tracker: begun again %Y-%m-%dT%H:%M:%SZ]\n", time.gmtime())
        self._put(feed + again.encode(), self._end)
        self._line = self._end

    def write(self, chunk: bytes) -> None:
        """Keep a chunk. Of a disk that refuses it is told once; then nothing more is kept."""
        if self.fault:
            self.dropped += len(chunk)
            return
        try:
            self._write(chunk)
            if self._end - self._tail > 2 * self._half:
                self._shorten()
        except OSError as error:
            self.dropped += len(chunk)
            self._give_up(error)

    def _write(self, chunk: bytes) -> None:
        takes_back, data = self._redraw.feed(chunk)
        start = self._line if takes_back else self._end
        was = self._end
        self._put(data, start)
        if self._end < was:
            os.ftruncate(self._fd, self._end)
        feed = data.rfind(b"\n")
        if feed >= 0:
            self._line = start + feed + 1

    def _put(self, data: bytes, start: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._fd, memoryview(data)[done:], start + done)
        self._end = start + len(data)

    def _shorten(self) -> None:
        """Leave out all but the last half of what comes after the first one."""
        head = os.pread(self._fd, self._head, 0)
        if not self.dropped:
            head = head[: _cut_after(head)]
            self._head = self._tail = len(head)
        first = self._end - self._half
        tail = os.pread(self._fd, self._half, first)
        skip = tail.find(b"\n", 0, _SPARE) + 1
        self.dropped += first + skip - self._tail
        before = b"%s[tracker: %d bytes left out here]\n" % (head, self.dropped)
        line = self._line
        self._replace(before + tail[skip:])
        self._tail = len(before)
        self._line = max(line - first - skip, 0) + self._tail
        self._end = self._tail + len(tail) - skip

    def _replace(self, data: bytes) -> None:
        # openat(tmp), write…, renameat; on failure unlinkat(tmp), and the long file stands
        name = f"tmp-{os.urandom(8).hex()}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(name, flags, 0o666, dir_fd=self._folder_fd)
        try:
            write_all(fd, data)
            os.rename(name, self._name, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)
        except BaseException:
            os.close(fd)
            os.unlink(name, dir_fd=self._folder_fd)
            raise
        os.close(self._fd)
        self._fd = fd

    def finish(self) -> str:
        """Bring the file within its limit; give what became of it, as it is told to the captured process."""
        try:
            if not self.fault and self._end - self._tail > self._half:
                self._shorten()
        except OSError as error:
            self._give_up(error)
        size = 0
        if self._fd >= 0:
            size = os.fstat(self._fd).st_size
            os.close(self._fd)
        return f"{size} {self.dropped} {self.fault}"

    def _give_up(self, error: OSError) -> None:
        self.fault = error.strerror or str(error)
        text = f"tracker: warning: output is no longer kept in {self._name}: {self.fault}\n"
        pass_on(2, text.encode("utf-8", "backslashreplace"))


def _cut_after(head: bytes) -> int:
    """The end of the last line of `head`, if one ends near its end."""
    feed = head.rfind(b"\n", max(len(head) - _SPARE, 0))
    return feed + 1 if feed >= 0 else len(head)


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`."""
    done = 0
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def pass_on(fd: int, data: bytes) -> None:
    """Write to an original. It may be slow; where it is closed or broken the rest goes nowhere."""
    done = 0
    while done < len(data):
        try:
            done += os.write(fd, memoryview(data)[done:])
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError:
            return


class Pump:
    """From channels to their targets and a file, until nobody holds a write end."""

    def __init__(self, kept: KeptFile, targets: dict[int, int]) -> None:
        self._kept: KeptFile | None = kept
        self._targets = targets
        self._terminals = {fd: target for fd, target in targets.items() if os.isatty(fd)}
        self._sizes: dict[int, bytes] = {}
        self._begun: dict[int, bytes] | None = {} if len(targets) > 1 else None
        self._poll = select.poll()
        for fd in (CONTROL, *targets):
            self._poll.register(fd, select.POLLIN)
        self._asked = b""
        self._by = 0.0

    def run(self) -> None:
        """Pass on and keep; after a stop pass on alone."""
        while self._targets:
            self._follow_sizes()
            events = [fd for fd, _ in self._poll.poll(self._wait_ms())]
            if CONTROL in events:
                self._hear()
                continue
            for fd in events:
                self._move(fd)
            if not events:
                self._keep_begun()
            if self._asked and (not events or time.monotonic() > self._by):
                self._answer()
        self._report()

    def _wait_ms(self) -> int | None:
        if self._asked:
            return 0
        if self._begun:
            return _LINE_MS
        return _RESIZE_MS if self._terminals else None

    def _hear(self) -> None:
        """What the captured process asks, one thing at a time; nothing once it is gone or has let go."""
        self._asked = os.read(CONTROL, 64)
        self._by = time.monotonic() + _DRAIN_S
        if not self._asked:
            self._poll.unregister(CONTROL)

    def _answer(self) -> None:
        """The channels were found empty after the question: all that was written before it has been moved."""
        asked, self._asked = self._asked, b""
        if asked == DRAIN:
            pass_on(STATUS, b"\n")
        else:
            self._report()

    def _move(self, fd: int) -> None:
        try:
            chunk = os.read(fd, _READ)
        except OSError:  # EIO: nobody holds the other side of a pseudo-terminal
            chunk = b""
        if not chunk:
            self._poll.unregister(fd)
            del self._targets[fd]
            self._terminals.pop(fd, None)
            return
        if self._targets[fd] != NOWHERE:
            pass_on(self._targets[fd], chunk)
        if self._kept is not None:
            self._keep(fd, chunk)

    def _keep(self, fd: int, chunk: bytes) -> None:
        """Write what came; of several channels whole lines, so that they do not run into each other."""
        assert self._kept is not None, "asked for while it is kept"
        if self._begun is None:
            self._kept.write(chunk)
            return
        data = self._begun.pop(fd, b"") + chunk
        end = data.rfind(b"\n") + 1
        if len(data) - end > _READ:
            end = len(data)
        if end:
            self._kept.write(data[:end])
        if data[end:]:
            self._begun[fd] = data[end:]

    def _keep_begun(self) -> None:
        """Write lines that have no end yet, since nothing more comes for the moment."""
        if self._begun and self._kept is not None:
            for data in self._begun.values():
                self._kept.write(data)
            self._begun.clear()

    def _report(self) -> None:
        """Close the file and say what is in it, and how many channels others still hold."""
        if self._kept is None:
            return
        self._keep_begun()
        text, self._kept = self._kept.finish(), None
        pass_on(STATUS, f"{len(self._targets)} {text}\n".encode("utf-8", "backslashreplace"))

    def _follow_sizes(self) -> None:
        """A pseudo-terminal is as large as the terminal that it stands for."""
        for fd, target in self._terminals.items():
            try:
                size = fcntl.ioctl(target, termios.TIOCGWINSZ, b"\0" * 8)
                if size != self._sizes.get(fd):
                    fcntl.ioctl(fd, termios.TIOCSWINSZ, size)
            except OSError:
                size = b""  # the terminal is gone
            self._sizes[fd] = size


_UNHEARD = [getattr(signal, f"SIG{name}") for name in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2")]
"""Meant for the captured process; when that has ended the channels are closed, and the pump ends."""


def main(arguments: list[str]) -> None:
    """Arguments: the file's name in FOLDER, the limit in bytes, and the target of each channel."""
    for number in _UNHEARD:
        signal.signal(number, signal.SIG_IGN)
    os.setsid()
    os.chdir("/")  # it holds no folder but that of its file
    name, limit, *targets = arguments
    channels = {FIRST_CHANNEL + place: int(target) for place, target in enumerate(targets)}
    os.closerange(FIRST_CHANNEL + len(channels), _last_fd() + 1)
    Pump(KeptFile(FOLDER, os.fsdecode(name), int(limit)), channels).run()


def _last_fd() -> int:
    return max(int(name) for name in os.listdir("/dev/fd"))


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # all is written, and somebody waits for this process
