"""A run's own files: its `params.json`, and the sealing of what it wrote.

Knows paths below the root and bytes. Users' files are read, never written.

Spec: spec/layout.md section 4; spec/log.md section 8.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from blake3 import blake3

from tracker._disk import durable
from tracker._model.event import Attachment, File
from tracker.errors import DamagedError, NameRefusedError, StorageError

_SMALL_BYTES = 1 << 20
_AT_ONCE = 1 << 22


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


def seal_files(root: Path, files: Iterable[Attachment]) -> list[File]:
    """The files as they are now: size and digest, folders file by file.

    One that was attached and does not exist has neither. Cost: 15 µs a small file; large ones at the speed
    of BLAKE3 on all cores.
    Raises: StorageError when one cannot be read.
    """
    return [sealed for file in files for sealed in _seal(root, file)]


def exists(root: Path, path: str) -> bool:
    """True if something lies at `path` below the root, or at an absolute one."""
    return durable.path_exists(os.path.join(root, path))


def _seal(root: Path, file: Attachment) -> Iterator[File]:
    place = os.path.join(root, file.path)
    try:
        status = os.stat(place)
        if stat.S_ISDIR(status.st_mode):
            yield from _seal_folder(root, file)
        elif stat.S_ISREG(status.st_mode):
            size, digest = hash_file(place)
            yield File(file.name, file.path, size, digest, file.external)
        else:
            yield File(file.name, file.path, None, None, file.external)
    except FileNotFoundError:
        yield File(file.name, file.path, None, None, file.external)
    except StorageError:
        raise
    except OSError as error:
        raise durable.as_storage_error(error, place, "seal") from error


def _seal_folder(root: Path, folder: Attachment) -> Iterator[File]:
    place = os.path.join(root, folder.path)
    for above, folders, names in os.walk(place):
        folders.sort()
        inner = os.path.relpath(above, place)
        for name in sorted(names):
            below = name if inner == "." else f"{inner}/{name}".replace(os.sep, "/")
            if not _is_utf8(below):
                raise NameRefusedError("file name", below, f"in {folder.path} is not UTF-8", "rename it")
            yield from _seal(
                root, Attachment(f"{folder.name}/{below}", f"{folder.path}/{below}", folder.external)
            )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def hash_file(place: str) -> tuple[int, bytes]:
    """Size in bytes and BLAKE3 digest of a file. Raises: OSError as it comes."""
    with open(place, "rb", buffering=0) as file:
        data = file.read(_SMALL_BYTES)
        if len(data) < _SMALL_BYTES:
            return len(data), blake3(data).digest()
        hasher = blake3(data, max_threads=blake3.AUTO)
        size = len(data)
        while data := file.read(_AT_ONCE):
            hasher.update(data)
            size += len(data)
        return size, hasher.digest()


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
