"""Damaged pieces set aside below `quarantine/`: kept for people, never read, never deleted.

Knows names and bytes, not what is wrong with them.

Spec: spec/layout.md section 9.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracker._codec.frame import file_hash
from tracker._disk import durable
from tracker._disk.moving import move_all
from tracker._model.names import STORE
from tracker.errors import StorageError

QUARANTINE = "quarantine"
OUTSIDE = "outside"
"""Below it lie users' files and `params.json`, which come from outside the store's folder."""


def quarantine(store_fd: int, path: str) -> str:
    """Move a file of the store aside and give the path below `.tracker` that it has from now on.

    It goes to `quarantine/<path>.<the first 16 hex digits of BLAKE3 of its bytes>`, so the same bytes are
    kept once and others beside them.

    Crash states: the file under its old name, under both names, or under the new one; its bytes are never
    written. To do it again ends the same.
    Raises: StorageError, with ENOENT where there is no such file, and when its bytes cannot be read.
    """
    return _set_aside(store_fd, path, f"{QUARANTINE}/{path}")


def quarantine_outside(root_fd: int, path: str) -> str:
    """The same for a file below the root and outside `.tracker`: `quarantine/outside/<path>.<hex16>`.

    The path that it gives is below `.tracker` too.
    """
    target = _set_aside(root_fd, path, f"{STORE}/{QUARANTINE}/{OUTSIDE}/{path}")
    return target.removeprefix(f"{STORE}/")


def _set_aside(dir_fd: int, path: str, stem: str) -> str:
    data = durable.read_file(path, dir_fd)
    target = f"{stem}.{file_hash(data)}"
    try:
        move_all([(path, target)], dir_fd)
    except StorageError:
        if not _holds(target, data, dir_fd):
            raise
        durable.unlink_if_there(path, dir_fd)  # these very bytes were set aside before
    return target


def _holds(path: str, data: bytes, dir_fd: int) -> bool:
    try:
        return durable.read_file(path, dir_fd) == data
    except FileNotFoundError:
        return False


def iter_quarantined(store_fd: int, folder: str = QUARANTINE) -> Iterator[str]:
    """The paths of all that was set aside, below `.tracker`, in the order of their names."""
    files = set(durable.list_files(folder, store_fd))
    for name in sorted(durable.list_names(folder, store_fd)):
        if name in files:
            yield f"{folder}/{name}"
        else:
            yield from iter_quarantined(store_fd, f"{folder}/{name}")
