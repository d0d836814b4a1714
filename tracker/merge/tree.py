"""The users' files of SRC, found without following a link, and read.

Spec: spec/merge.md section 6.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from tracker._disk import durable
from tracker._model.names import CLAIMS, FORMAT, LEDGER, MANIFESTS, METRICS, OBJECTS, STORE
from tracker._store.arrivals import hash_whole
from tracker._store.quarantine import QUARANTINE
from tracker.errors import StorageError
from tracker.merge.conflicts import original_name
from tracker.merge.plan import Facts

_ROOMS = frozenset({FORMAT, LEDGER, MANIFESTS, METRICS, OBJECTS, CLAIMS, QUARANTINE})
"""What has rules of its own below `.tracker`; other names there are taken as users' files are."""


class Found(NamedTuple):
    """A name below SRC's root. `why_not` says why it is not taken, and is empty for a regular file."""

    path: str
    why_not: str


def iter_tree(root: str) -> Iterator[Found]:
    """Every file below `root` that is not the store's own, in the order of names, `.tracker` first.

    A folder that is a store of its own is one entry. Empty folders are none.
    """
    yield from _walk(root, "")


def _walk(root: str, folder: str) -> Iterator[Found]:
    try:
        with os.scandir(os.path.join(root, folder)) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        yield Found(folder, f"cannot be read: {error.strerror or error}")
        return
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if folder == STORE and entry.name in _ROOMS:
            continue
        if folder == STORE and original_name(entry.name) in _ROOMS:
            yield Found(path, "no name of the store's")
        elif entry.is_symlink():
            yield Found(path, "a symbolic link")
        elif entry.is_dir():
            yield from _enter(root, path)
        else:
            yield Found(path, "" if entry.is_file() else "no regular file")


def _enter(root: str, path: str) -> Iterator[Found]:
    if path != STORE and os.path.isdir(os.path.join(root, path, STORE, LEDGER)):
        yield Found(path, "a store of its own: merge it by itself")
        return
    yield from _walk(root, path)


def facts_of(place: str) -> Facts:
    """Size and digest of the file at an ordinary path. Raises: StorageError. Cost: one read."""
    try:
        size, digest, uid = hash_whole(place)
    except OSError as error:
        raise durable.as_storage_error(error, place, "read") from error
    return Facts(size, digest, uid)


def read_whole(place: str) -> bytes:
    """All bytes of a small file at an ordinary path. Raises: StorageError."""
    try:
        with open(place, "rb") as file:
            return file.read()
    except OSError as error:
        raise durable.as_storage_error(error, place, "read") from error


def facts_below(root_fd: int, root: str, path: str) -> Facts | str | None:
    """What lies at `path` here: a file's facts, what else it is, or None. A link is followed."""
    try:
        status = durable.stat_followed(path, root_fd)
    except FileNotFoundError:
        return "a link that leads nowhere" if _is_link(path, root_fd) else None
    except NotADirectoryError:
        return "below a file of that name"
    except StorageError as error:
        return error.reason
    if not stat.S_ISREG(status.st_mode):
        return "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
    try:
        return facts_of(os.path.join(root, path))
    except StorageError as error:
        return f"a file that cannot be read ({error.reason})"


def _is_link(path: str, root_fd: int) -> bool:
    try:
        durable.stat_at(path, root_fd)
    except FileNotFoundError:
        return False
    return True
