"""Bytes at a place within a file, and by what one can tell that it is the same file still.

Reads alone.

Spec: spec/packs.md section 4.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tracker._disk import durable
from tracker.errors import StorageError

Identity = tuple[int, int, int, int]
"""Device, inode, size and time of change of the bytes: equal for one file that nobody wrote to meanwhile."""


class Ranges:
    """An open file that is read here and there."""

    __slots__ = ("_dir_fd", "_fd", "_path", "identity", "size_bytes")

    def __init__(self, fd: int, path: str, dir_fd: int) -> None:
        self._fd, self._path, self._dir_fd = fd, path, dir_fd
        status = os.fstat(fd)
        self.identity = identity_of(status)
        self.size_bytes = status.st_size

    def read(self, start: int, size_bytes: int) -> bytes:
        """The bytes from `start` on, fewer where the file ends. Raises: StorageError."""
        # pread…
        found = b""
        while len(found) < size_bytes:
            try:
                more = os.pread(self._fd, size_bytes - len(found), start + len(found))
            except OSError as error:
                raise self._told(error) from error
            if not more:
                break
            found = found + more if found else more
        return found

    def _told(self, error: OSError) -> StorageError:
        where = durable.shown_path(self._path, self._dir_fd)
        if error.errno == errno.ESTALE:
            # On NFS another client removed it between our open and our read: it is not there.
            error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return durable.as_storage_error(error, where, "read")


@contextmanager
def open_ranges(path: str, dir_fd: int) -> Iterator[Ranges]:
    """Open a file to read it here and there; a link is not followed. Raises: StorageError."""
    # openat(O_RDONLY|O_NOFOLLOW|O_NONBLOCK), fstat, pread…, close
    fd = durable.open_file_fd(path, dir_fd)
    try:
        yield Ranges(fd, path, dir_fd)
    finally:
        durable.close_read(fd)


def identity_of(status: os.stat_result) -> Identity:
    """What tells this file from what another call finds under its name."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
