"""Bytes kept under their digest, below `objects/`: put, get with check, list.

An object is visible only once it is synced, in every durability mode, and never changed.

Spec: spec/layout.md sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracker._codec.digest import digest
from tracker._disk import durable
from tracker._model.names import OBJECTS, object_path, parse_object_path
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
    for made in durable.make_folders(path.rpartition("/")[0], store_fd):
        durable.sync_folder(made.rpartition("/")[0], store_fd)
    durable.publish(path, data, store_fd)
    return name


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


def iter_objects(store_fd: int) -> Iterator[str]:
    """The paths of all objects, in the order of their names."""
    for folder in sorted(durable.list_names(OBJECTS, store_fd)):
        for name in sorted(durable.list_names(f"{OBJECTS}/{folder}", store_fd)):
            path = f"{OBJECTS}/{folder}/{name}"
            if parse_object_path(path) is not None:
                yield path
