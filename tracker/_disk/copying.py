"""A file of another tree, copied whole and synced before its name appears, never over what is there.

It knows names below a folder's descriptor, as `durable` does, and bytes that are copied as they come.

LIMIT: where the file system has no hard links, a file that appears between look and rename is replaced.
Spec: spec/merge.md section 6; spec/layout.md section 8.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress

from tracker._disk import durable
from tracker._model.names import temporary_name
from tracker.errors import StorageError

_CHUNK_BYTES = 1 << 20
_MODE_BITS = 0o777
_SOURCE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def copy_beside(source: str, name: str, dir_fd: int, heed: Callable[[bytes], object]) -> str:
    """Copy the file at the ordinary path `source` to a temporary one in the folder of `name`; give its name.

    It is synced; mode and modification time are kept, owner and extended attributes are not. `heed` is given
    all bytes. A failure leaves nothing.

    Crash states: a `tmp-…`, which readers ignore.
    Raises: StorageError, with ELOOP for a link and EINVAL for what is no regular file.
    """
    # open(source), fstat, openat(tmp, O_EXCL), read…, write…, fchmod, futimens, fsync, close
    folder, _, _ = name.rpartition("/")
    last = temporary_name(os.urandom(8))
    temporary = f"{folder}/{last}" if folder else last
    source_fd = _open(source)
    try:
        status = os.fstat(source_fd)
        fd = durable.open_new(temporary, dir_fd, 0o600)
        try:
            _fill(fd, source_fd, source, status, heed)
        except BaseException as error:
            drop(temporary, dir_fd)
            if isinstance(error, OSError):
                shown = durable.shown_path(temporary, dir_fd)
                raise durable.as_storage_error(error, shown, "write") from error
            raise
    finally:
        durable.close_read(source_fd)
    return temporary


def _open(source: str) -> int:
    try:
        fd = os.open(source, _SOURCE)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        durable.close_read(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    except OSError as error:
        raise durable.as_storage_error(error, source, "read") from error


def _fill(
    fd: int, source_fd: int, source: str, status: os.stat_result, heed: Callable[[bytes], object]
) -> None:
    """Write and sync the whole copy, and close it: NFS tells of a full disk there."""
    try:
        while data := _read(source_fd, source):
            heed(data)
            durable.write_all(fd, data)
        os.fchmod(fd, stat.S_IMODE(status.st_mode) & _MODE_BITS)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(fd)
    except BaseException:
        with suppress(OSError):  # the first failure is the one to tell
            os.close(fd)
        raise
    os.close(fd)


def _read(fd: int, source: str) -> bytes:
    try:
        return os.read(fd, _CHUNK_BYTES)
    except OSError as error:
        raise durable.as_storage_error(error, source, "read") from error


def place(temporary: str, name: str, dir_fd: int) -> bool:
    """Give a temporary file its name, unless something has it; False then, and the file stays temporary.

    When this returns True the name stands through a power cut.

    Crash states: the temporary name; then both; then `name` alone.
    Raises: StorageError.
    """
    # linkat, unlinkat, fsync folder; without hard links fstatat, renameat
    try:
        if not durable.link(temporary, name, dir_fd):
            return False
        drop(temporary, dir_fd)
    except StorageError as error:
        if not durable.cannot_link(error):
            raise
        if durable.exists(name, dir_fd):
            return False
        _rename(temporary, name, dir_fd)
    durable.sync_folder(name.rpartition("/")[0], dir_fd)
    return True


def _rename(temporary: str, name: str, dir_fd: int) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError as error:
        raise durable.as_storage_error(error, durable.shown_path(name, dir_fd), "write") from error


def drop(temporary: str, dir_fd: int) -> None:
    """Remove a temporary file that is not wanted; one that cannot be removed is ignored by readers."""
    with suppress(StorageError):
        durable.unlink_if_there(temporary, dir_fd)
