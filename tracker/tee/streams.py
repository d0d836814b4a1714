"""`sys.stdout` and `sys.stderr` where they do not write to descriptors 1 and 2, and where they do.

A notebook's stream, pytest's, a StringIO: the object stays what it is, and its `write` also writes to a
channel. Where the object does write to 1 or 2 the descriptor is enough; it is made to let go of each line, so
that what is kept is not behind by a buffer.

LIMIT: of an object that is not on 1 or 2, what is written to its `.buffer` is not kept, nor what is written
to a stream that is set in its place later.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from tracker.tee.channels import STANDARD

Write = Callable[..., Any]


def flush_streams() -> None:
    """Let both go of what they hold back. One that is closed or broken is its owner's affair."""
    for stream in _streams():
        try:
            stream.flush()
        except (OSError, ValueError):
            continue


def are_all_standard() -> bool:
    """True if both write to descriptors 1 and 2."""
    return all(_is_standard(stream) for stream in _streams())


def _streams() -> list[Any]:
    both = [sys.stdout, sys.stderr]
    return [stream for stream in dict.fromkeys(both) if stream is not None]


def _is_standard(stream: Any) -> bool:
    try:
        return stream.fileno() in STANDARD
    except (OSError, ValueError, AttributeError):
        return False


class Wraps:
    """What was changed of the streams, and is put back. `fd` is a channel's write end, or -1."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._undo: list[Callable[[], None]] = []
        self._here = threading.local()

    def put_on(self) -> None:
        """Change what is to be changed."""
        if not are_all_standard():
            self._hold_on()
            for stream in dict.fromkeys((sys.__stdout__, sys.__stderr__)):
                if _is_standard(stream):
                    self._wrap(stream, self._noticed)
        for stream in _streams():
            if not _is_standard(stream):
                self._wrap(stream, self._teed)
            elif isinstance(stream, io.TextIOWrapper) and not stream.line_buffering:
                self._by_line(stream)

    def take_off(self) -> None:
        """Put everything back."""
        while self._undo:
            self._undo.pop()()

    def _hold_on(self) -> None:
        """Change them anew in each cell of a notebook: in each IPython puts in a `write` of its own."""
        shell = _shell()
        if shell is not None:
            shell.events.register("pre_run_cell", self._change_again)
            self._undo.append(lambda: shell.events.unregister("pre_run_cell", self._change_again))

    def _change_again(self, *_: object) -> None:
        self.take_off()
        self.put_on()

    def _by_line(self, stream: io.TextIOWrapper) -> None:
        stream.reconfigure(line_buffering=True)

        def undo() -> None:
            if not stream.closed:
                stream.reconfigure(line_buffering=False)

        self._undo.append(undo)

    def _noticed(self, write: Write, stream: Any) -> Write:
        """The real stream: a stream in its place may write to it too, and is then not kept twice."""

        def noticed(*text: Any) -> Any:
            self._here.is_passed_on = True
            return write(*text)

        return noticed

    def _teed(self, write: Write, stream: Any) -> Write:
        def teed(*text: Any) -> Any:
            self._here.is_passed_on = False
            given = write(*text)
            if text and not self._here.is_passed_on and not _is_echo(stream):
                self._send(text[0])
            return given

        return teed

    def _wrap(self, stream: Any, kind: Callable[[Write, Any], Write]) -> None:
        """Give one object another `write`: its class, and whoever holds it, know no difference."""
        before, write = vars(stream).get("write"), stream.write
        changed = kind(write, stream)
        is_on = True

        def wrapped(*text: Any) -> Any:
            return changed(*text) if is_on else write(*text)

        def undo() -> None:
            nonlocal is_on
            is_on = False  # somebody may have wrapped it once more, and call it still
            if vars(stream).get("write") is not wrapped:
                return
            if before is None:
                del stream.write
            else:
                stream.write = before

        stream.write = wrapped
        self._undo.append(undo)

    def _send(self, text: Any) -> None:
        data = text.encode("utf-8", "backslashreplace") if isinstance(text, str) else bytes(text)
        done = 0
        while done < len(data):
            try:
                done += os.write(self._fd, memoryview(data)[done:])
            except OSError:  # the pump is gone, which is told elsewhere; the print has happened
                return


def _shell() -> Any:
    """IPython, where this is one of its processes."""
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


def _is_echo(stream: Any) -> bool:
    """True in the thread in which a notebook's stream shows what was written to descriptor 1 or 2."""
    return threading.current_thread() is getattr(stream, "watch_fd_thread", None)
