"""A file under another name of the same file system, never over what is there; emptied folders removed.

Made of the verbs of `durable`, and where the file system has no hard links of one rename.

Spec: spec/layout.md section 9.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress

from tracker._disk import durable
from tracker.errors import StorageError

Move = tuple[str, str]
"""From where to where, both below one folder."""


def move_all(moves: Iterable[Move], dir_fd: int) -> list[Move]:
    """Move files to names that must be free, synced; give those that were there to be moved.

    A link is moved, not followed. A target that is the same file already (a move that was cut off) counts as
    free, a source that is gone as moved.

    Two processes that make the same moves at once end as one would.

    Crash states: before the folders of the targets are synced, files under their old names, some under both;
    after it under both or the new ones. A file has a name at every moment. To move again ends the same.
    Without hard links each file has one name, the old or the new.

    Raises: StorageError, with EEXIST when a target is taken; what was moved before stays moved.
    """
    # mkdirat, linkat (or fstatat, renameat) each; fsync folders up to dir_fd; unlinkat each; fsync folders
    there = [move for move in moves if _give_name(*move, dir_fd)]
    _sync_up({target.rpartition("/")[0] for _, target in there}, dir_fd)
    for source, _ in there:
        durable.unlink_if_there(source, dir_fd)
    for folder in {source.rpartition("/")[0] for source, _ in there}:
        with suppress(FileNotFoundError):  # whoever made the same moves has removed it
            durable.sync_folder(folder, dir_fd)
    return there


def _give_name(source: str, target: str, dir_fd: int) -> bool:
    """Give a file its new name; False if it is gone."""
    if not durable.exists(source, dir_fd):
        return False
    durable.make_folders(target.rpartition("/")[0], dir_fd)
    try:
        if durable.link(source, target, dir_fd) or is_same_file(source, target, dir_fd):
            return True
        if not durable.exists(source, dir_fd):
            return False
    except StorageError as error:
        if not durable.exists(source, dir_fd):
            return False
        if not durable.cannot_link(error):
            raise
        if not durable.exists(target, dir_fd):
            _rename(source, target, dir_fd)
            return True
    raise durable.as_storage_error(FileExistsError(errno.EEXIST, "it is taken"), target, "move a file to")


def is_same_file(one: str, other: str, dir_fd: int) -> bool:
    """True if two names lead to one file; False where one is not there."""
    try:
        first, second = durable.stat_at(one, dir_fd), durable.stat_at(other, dir_fd)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _rename(source: str, target: str, dir_fd: int) -> None:
    # LIMIT: without hard links nothing keeps another process from taking the name since it was looked at
    try:
        os.rename(source, target, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError as error:
        raise durable.as_storage_error(error, source, "move") from error


def move_folder(source: str, target: str, dir_fd: int) -> None:
    """Give a folder another name that must be free, beside the old one, synced.

    Crash states: the old name or the new. Raises: StorageError, with EEXIST when the target is taken.
    """
    # fstatat, renameat, fsync folder
    if durable.exists(target, dir_fd):
        raise durable.as_storage_error(FileExistsError(errno.EEXIST, "it is taken"), target, "move to")
    _rename(source, target, dir_fd)
    durable.sync_folder(target.rpartition("/")[0], dir_fd)


def remove_if_empty(path: str, dir_fd: int) -> None:
    """Remove a folder if it is empty; else it stays, as a link does. Not synced. Raises: StorageError."""
    # unlinkat(AT_REMOVEDIR)
    try:
        os.rmdir(path, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise durable.as_storage_error(error, path, "remove") from error


_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY, errno.ENOENT)


def _sync_up(folders: set[str], dir_fd: int) -> None:
    """Sync folders and all above them, the deepest first, so that no name leads to an unsynced one."""
    above = {folder[:end] for folder in folders for end in (*_ends(folder), len(folder), 0)}
    for folder in sorted(above, key=len, reverse=True):
        durable.sync_folder(folder, dir_fd)


def _ends(path: str) -> list[int]:
    return [at for at, char in enumerate(path) if char == "/"]
