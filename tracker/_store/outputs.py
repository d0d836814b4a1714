"""A run's own files: its folder, its `params.json`, and users' files brought beyond a power cut.

Knows paths below the root and bytes. Users' files are read, never written.

Spec: spec/layout.md section 4; spec/log.md section 8.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from tracker._disk import durable
from tracker.errors import DamagedError


def make_run_folder(root_fd: int, path: str) -> None:
    """Make a folder below the root, with its parents; the root itself is never made here.

    Cost: 26 µs to make it, 2 µs to find it. Raises: StorageError.
    """
    durable.make_folders(path, root_fd)


def put_params(root_fd: int, path: str, text: bytes) -> None:
    """Write `params.json`, read-only, unless it is there.

    Crash states: absent, or a prefix of the text, or zeros, which count as absent and are replaced.
    Raises: DamagedError when other bytes are there; StorageError.
    Cost: 13 µs to make it, 8 µs to find it.
    """
    if durable.create(path, text, root_fd):
        return
    found = durable.read_file(path, root_fd)
    if found == text:
        return
    if not durable.is_cut_short(found, text):
        why = (
            "ends in a newline that an editor added"
            if found.rstrip(b"\r\n") == text
            else "holds other bytes than this run's params"
        )
        raise DamagedError(
            path,
            why,
            spec="spec/layout.md section 4",
            cure="compare it with `tracker params`, then remove it: it is made anew",
        )
    durable.replace(path, text, root_fd, sync=False)


def exists(root: Path, path: str) -> bool:
    """True if something lies at `path` below the root, or at an absolute one."""
    return durable.path_exists(os.path.join(root, path))


def sync_files(root: Path, root_fd: int, paths: Iterable[str]) -> None:
    """Bring these files, and the names that lead to them from the root on, beyond a power cut.

    fsync of each file, then of each folder on the way up to the root. Missing ones are passed over.
    Raises: StorageError.
    """
    folders: set[str] = set()
    for path in paths:
        try:
            if os.path.isabs(path):
                _sync_external(path)
                continue
            _sync_below(root_fd, path)
        except FileNotFoundError:
            continue
        folders.update(_ancestors(path))
    for folder in sorted(folders, key=len, reverse=True):
        durable.sync_folder(folder, root_fd)


def _sync_below(root_fd: int, path: str) -> None:
    if stat.S_ISDIR(durable.stat_followed(path, root_fd).st_mode):
        durable.sync_folder(path, root_fd)
    else:
        durable.sync_file(path, root_fd)


def _sync_external(path: str) -> None:
    folder, name = os.path.split(path)
    fd = durable.open_root(folder)
    try:
        _sync_below(fd, name)
        durable.sync_folder("", fd)
    finally:
        durable.close_read(fd)


def _ancestors(path: str) -> Iterator[str]:
    """The folders that hold `path`, up to and with the root, which is ""."""
    while path:
        path = path.rpartition("/")[0]
        yield path
