"""Bytes kept under their digest, below `objects/`: put, get with check, list.

An object is visible only once it is synced, in every durability mode, and never changed.

Spec: spec/layout.md sections 2 and 3; spec/sealing.md section 5.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from tracker._codec.digest import digest
from tracker._disk import cloning, copying, durable
from tracker._model.names import OBJECTS, object_path, parse_object_path, temporary_name
from tracker._store.quarantine import quarantine
from tracker.errors import DamagedError, NotFoundError
from tracker.terms import Digest


def put_object(store_fd: int, data: bytes) -> Digest:
    """Keep `data`; return its digest. An object that is there already and whole is left alone.

    One that holds other bytes is moved to the quarantine, and `data` takes its place.

    System calls: [read], create tmp, write, fsync, close, rename, fsync folder. Crash states: nothing, or a
    `tmp-…`, or the whole object; where there was a damaged one, that, or nothing and the quarantine.
    Raises: StorageError.
    """
    name = digest(data)
    path = object_path(name)
    if durable.exists(path, store_fd):
        if durable.read_file(path, store_fd) == data:
            return name
        quarantine(store_fd, path)
    _make_folder_of(path, store_fd)
    durable.publish(path, data, store_fd)
    return name


def put_file(store_fd: int, source: str) -> tuple[Digest, int]:
    """Keep the bytes of the file at the ordinary path `source`, links followed; return digest and size.

    They are taken first, as a clone where the file system can and else as a copy, and hashed as they lie in
    the store, so that the name is right whatever happens to the source meanwhile. What is there already is
    not written again.

    System calls: open, read; mkdir, create tmp in `objects/`, ioctl or write, fsync, read; link, unlink,
    fsync folder. Crash states: nothing, or a `tmp-…` in `objects/`, or the whole object, perhaps with it.
    Raises: StorageError, with EINVAL for what is no regular file.
    Cost: two BLAKE3 passes; where the bytes are not here yet a copy, an fsync and a third pass.
    """
    source_fd = cloning.open_regular(source)
    try:
        size, found = cloning.hash_open(source_fd, source)
        if not _is_whole(store_fd, size, found):
            return put_open(store_fd, source_fd)
        return Digest(found.hex()), size
    finally:
        durable.close_read(source_fd)


def _is_whole(store_fd: int, size: int, wanted: bytes) -> bool:
    """True if these bytes are here. A damaged object makes room: it goes to the quarantine."""
    path = object_path(wanted.hex())
    try:
        fd = durable.open_file_fd(path, store_fd)
    except FileNotFoundError:
        return False
    try:
        if cloning.hash_open(fd, durable.shown_path(path, store_fd)) == (size, wanted):
            return True
    finally:
        durable.close_read(fd)
    quarantine(store_fd, path)
    return False


def put_open(store_fd: int, source_fd: int) -> tuple[Digest, int]:
    """Keep the bytes of an open file, in bounded memory; return digest and size. As `put_file`, but for the
    look whether they are here: they are brought in under a temporary name, then under the one they turn out
    to have.
    """
    if durable.make_folder(OBJECTS, store_fd):
        durable.sync_folder("", store_fd)
    temporary = f"{OBJECTS}/{temporary_name(os.urandom(8))}"
    try:
        size, found = cloning.clone_into(source_fd, temporary, store_fd)
        path = object_path(found.hex())
        if not _is_whole(store_fd, size, found):
            _make_folder_of(path, store_fd)
            copying.place(temporary, path, store_fd)  # who puts the same meanwhile puts the same bytes
    finally:
        copying.drop(temporary, store_fd)
    return Digest(found.hex()), size


def get_object(store_fd: int, name: Digest) -> bytes:
    """The bytes with this digest.

    Raises: NotFoundError if they are not here; DamagedError if the file holds others.
    """
    path = object_path(name)
    try:
        data = durable.read_file(path, store_fd)
    except FileNotFoundError as error:
        raise NotFoundError(f"object {name}", "objects/", "copy it from another copy of the tree") from error
    if digest(data) != name:
        raise DamagedError(path, "its bytes are not those its name says", spec="spec/layout.md section 3")
    return data


def is_sound(store_fd: int, path: str) -> bool:
    """True if the object at `path` holds the bytes that its name says, read in bounded memory.

    Raises: StorageError where it cannot be read.
    """
    fd = durable.open_file_fd(path, store_fd)
    try:
        _, found = cloning.hash_open(fd, durable.shown_path(path, store_fd))
    finally:
        durable.close_read(fd)
    return found.hex() == parse_object_path(path)


def iter_objects(store_fd: int) -> Iterator[str]:
    """The paths of all objects, in the order of their names."""
    for folder in sorted(durable.list_names(OBJECTS, store_fd)):
        for name in sorted(durable.list_names(f"{OBJECTS}/{folder}", store_fd)):
            path = f"{OBJECTS}/{folder}/{name}"
            if parse_object_path(path) is not None:
                yield path


def _make_folder_of(path: str, store_fd: int) -> None:
    for made in durable.make_folders(path.rpartition("/")[0], store_fd):
        durable.sync_folder(made.rpartition("/")[0], store_fd)
