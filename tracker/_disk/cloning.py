"""The bytes of a user's file brought into a new file of ours: a clone where the file system can, else a copy.

Never as a second name of the same file: what its owner goes on writing to would change under us.

LIMIT: FICLONE is Linux's (btrfs, XFS, bcachefs, overlay over them, some NFS 4.2); elsewhere bytes are copied.
Spec: spec/sealing.md section 5.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from contextlib import suppress

from tracker._disk import durable, hashing

_FICLONE = 0x40049409
_CHUNK_BYTES = 4 << 20
_NEW = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC  # to be cloned into, it must not be O_APPEND


def open_regular(path: str) -> int:
    """Open the regular file at an ordinary path, links followed; the caller closes it.

    Raises: StorageError.
    """
    # open(O_RDONLY|O_NONBLOCK), fstat
    try:
        fd = os.open(path, hashing.READ)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        durable.close_read(fd)
        raise OSError(errno.EINVAL, "not a regular file")
    except OSError as error:
        raise durable.as_storage_error(error, path, "read") from error


def hash_open(fd: int, shown: str) -> tuple[int, bytes]:
    """Size and digest of an open file, from its start. Raises: StorageError."""
    # lseek, read…
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        head, is_whole = hashing.read_head(fd)
        return (len(head), hashing.digest_of(head)) if is_whole else hashing.hash_on(fd, head)
    except OSError as error:
        raise durable.as_storage_error(error, shown, "read") from error


def clone_into(source_fd: int, name: str, dir_fd: int) -> tuple[int, bytes]:
    """Make the file `name`, which must not exist, with the bytes of `source_fd`; give its size and digest.

    It is synced and read-only. The digest is of what lies there: a clone has the bytes of one moment, a copy
    is as good as its source keeps still. A failure leaves nothing.

    Crash states: the file with some of the bytes, so it is a name that readers ignore.
    Raises: StorageError.
    """
    # openat(O_CREAT|O_EXCL|O_RDWR), ioctl(FICLONE) or read…, write…; fsync, lseek, read…, close
    shown = durable.shown_path(name, dir_fd)
    try:
        fd = os.open(name, _NEW, durable.READ_ONLY, dir_fd=dir_fd)
    except OSError as error:
        raise durable.as_storage_error(error, shown, "write") from error
    try:
        try:
            clone_or_copy(source_fd, fd)
            os.fsync(fd)
            facts = hash_open(fd, shown)
        except BaseException:
            durable.close_read(fd)
            raise
        os.close(fd)  # NFS tells of a full disk here
    except BaseException as error:
        with suppress(OSError):  # the first failure is the one to tell
            os.unlink(name, dir_fd=dir_fd)
        if isinstance(error, OSError):
            raise durable.as_storage_error(error, shown, "write") from error
        raise
    return facts


def clone_or_copy(source_fd: int, fd: int) -> bool:
    """Give the empty file `fd` the bytes of `source_fd`; True if the two share them until one is changed.

    Raises: OSError as it comes; some of the bytes may then be in the file.
    """
    if sys.platform == "linux" and _could_clone(source_fd, fd):
        return True
    os.lseek(source_fd, 0, os.SEEK_SET)
    with memoryview(bytearray(_CHUNK_BYTES)) as block:
        while got := os.readv(source_fd, [block]):
            durable.write_all(fd, block[:got])
    return False


def _could_clone(source_fd: int, fd: int) -> bool:
    """Any refusal means to copy: the file systems that cannot do not agree on how they say so."""
    try:
        fcntl.ioctl(fd, _FICLONE, source_fd)
    except OSError:
        return False
    return True
