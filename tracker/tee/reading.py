"""What was kept of a run's output, read whole or as it grows.

Reads only. Spec: spec/output.md.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from tracker._disk.durable import as_storage_error
from tracker.tee.pump import MARK


class Kept(NamedTuple):
    """The bytes of the file, and how many were left out of its middle."""

    data: bytes
    left_out: int


def read_kept(path: str) -> Kept | None:
    """The file as it is at this moment; None if there is none. Raises: StorageError."""
    found = _read_from(path, 0)
    if found is None:
        return None
    mark = MARK.search(found[1])
    return Kept(found[1], int(mark[1]) if mark else 0)


def tail_of(data: bytes, lines: int) -> bytes:
    """The last so many lines."""
    end = len(data.removesuffix(b"\n"))
    for _ in range(lines):
        end = data.rfind(b"\n", 0, end)
        if end < 0:
            return data
    return data[end + 1 :] if lines else b""


class Follower:
    """A file that grows, read by whole lines: the last one may still be drawn again.

    `seen` counts what has been given, with what was left out. Where the file was written anew, shorter, the
    next lines are found by that count; what was left out before it was given is told by the mark.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = -1
        self._at = 0
        self._seen = 0

    def news(self, *, is_last: bool = False) -> bytes:
        """The lines that came since; with `is_last` also one that has no end. Raises: StorageError."""
        found = _read_from(self._path, self._at, self._inode)
        if found is None:
            return b""
        inode, data = found
        if inode != self._inode:
            self._at = 0 if self._inode < 0 else _place_of(data, self._seen)
            self._inode, data = inode, data[self._at :]
        data = data if is_last else data[: data.rfind(b"\n") + 1]
        self._at += len(data)
        self._seen += sum(int(mark[1]) - len(mark[0]) for mark in MARK.finditer(data)) + len(data)
        return data


def _place_of(data: bytes, seen: int) -> int:
    """Where in a file that was shortened the byte stands before which `seen` ones were."""
    mark = MARK.search(data)
    if mark is None or seen <= mark.start():
        return min(seen, len(data))
    return max(mark.start(), min(mark.end() + seen - mark.start() - int(mark[1]), len(data)))


def _read_from(path: str, start: int, inode: int = -1) -> tuple[int, bytes] | None:
    """The inode, and the bytes from `start` on; all of them where the inode is another one."""
    try:
        with open(path, "rb", buffering=0) as file:
            now = os.fstat(file.fileno()).st_ino
            file.seek(start if now == inode else 0)
            return now, file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise as_storage_error(error, path, "read") from error
