"""A disk that fails: `os` as the writing half sees it, whose n-th call is refused, cut short or belied.

It knows calls and their numbers, never what they are for. Calls of other threads than the one that armed it
go through uncounted. Nothing is synced in earnest: what the power leaves is tools/powercut's to show.
"""

from __future__ import annotations

import errno
import functools
import os
import threading
from collections import Counter
from typing import Any, NamedTuple

COUNTED = (
    *("open", "write", "fsync", "fdatasync", "close", "mkdir", "link", "rename", "unlink", "utime"),
    *("stat", "fstat", "listdir", "scandir"),
)
"""Calls that a disk may refuse."""

CHANGING = ("mkdir", "link", "rename", "unlink")
"""Calls that a file server may have done though its answer was lost."""

_SYNCS = ("fsync", "fdatasync")


class Way(NamedTuple):
    """How calls of these kinds fail, the n-th alone or from the n-th on."""

    name: str
    calls: tuple[str, ...]
    error: int | None
    writes_half: bool = False
    is_done: bool = False
    lasts: bool = False


WAYS = (
    Way("EIO", COUNTED, errno.EIO),
    Way("ENOSPC", COUNTED, errno.ENOSPC),
    Way("EINTR", COUNTED, errno.EINTR),
    Way("short", ("write",), None, writes_half=True),
    Way("short, then ENOSPC", ("write",), errno.ENOSPC, writes_half=True),
    Way("EIO, though it was done", CHANGING, errno.EIO, is_done=True),
    Way("EEXIST, though it was done", ("mkdir", "link"), errno.EEXIST, is_done=True),
    Way("EIO from here on", COUNTED, errno.EIO, lasts=True),
    Way("no hard links", ("link",), errno.EPERM, lasts=True),
)


class Struck(NamedTuple):
    """The first call that failed, and the path it was about, as far as one can tell."""

    call: str
    path: str


class Disk:
    """Stands in for the module `os`. It fails nothing before it is armed."""

    def __init__(self) -> None:
        self.struck: Struck | None = None
        self.counts: Counter[str] = Counter()
        self._way: Way | None = None
        self._at = 0
        self._seen = 0
        self._refuses_next = False
        self._thread = 0

    def arm(self, way: Way, at: int) -> None:
        """Have the `at`-th of the calls that this thread makes from now on, counted from 0, fail."""
        self.struck, self._way, self._at, self._seen = None, way, at, 0
        self._refuses_next = False
        self._thread = threading.get_ident()

    def heal(self) -> None:
        """Fail nothing from now on."""
        self._way, self._refuses_next = None, False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return functools.partial(self._call, name, real) if name in COUNTED else real

    def _call(self, name: str, real: Any, *args: Any, **kwargs: Any) -> Any:
        way = self._way
        if way is None or threading.get_ident() != self._thread:
            return self._do(name, real, args, kwargs)
        if name == "write":  # the traceback of a failure keeps this frame: it must not hold a view of memory
            args = (args[0], bytes(args[1]))
        if self._refuses_next:
            self._refuses_next = False
            raise _refusal(way)
        if not self._is_due(name, way):
            return self._do(name, real, args, kwargs)
        if self.struck is None:
            self.struck = Struck(name, _path_of(name, args, kwargs))
        self.counts[name] += 1
        if way.writes_half:
            self._refuses_next = way.error is not None
            return real(args[0], args[1][: (len(args[1]) + 1) // 2])
        if way.is_done or name == "close":  # a refused close() has closed
            real(*args, **kwargs)
        raise _refusal(way)

    def _is_due(self, name: str, way: Way) -> bool:
        if name not in way.calls:
            return False
        number, self._seen = self._seen, self._seen + 1
        return number >= self._at if way.lasts else number == self._at

    @staticmethod
    def _do(name: str, real: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return None if name in _SYNCS else real(*args, **kwargs)


def _refusal(way: Way) -> OSError:
    assert way.error is not None, "this way refuses nothing"
    return OSError(way.error, os.strerror(way.error))


def _path_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    what = args[1] if name in ("link", "rename") else args[0]
    fd = what if isinstance(what, int) else kwargs.get("dst_dir_fd", kwargs.get("dir_fd"))
    last = "" if isinstance(what, int) else os.fspath(what)
    try:
        above = "" if fd is None else os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return last
    return os.path.join(above, last) if last else above
