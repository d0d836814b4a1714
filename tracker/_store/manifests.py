"""Manifest files below `manifests/`: put, read, list.

Derived and never synced: bytes that do not match the name count as absent and are written anew.

Spec: spec/manifest.md; spec/layout.md sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracker._codec.frame import file_hash
from tracker._disk import durable
from tracker._model.names import MANIFESTS, parse_manifest_path


def put_manifest(store_fd: int, path: str, data: bytes) -> None:
    """Write `data` under its content name, if it is not there already.

    Crash states: nothing, or a part of the bytes under the name, which counts as absent.
    Cost: one create, 15 µs. Raises: StorageError.
    """
    try:
        made = durable.create(path, data, store_fd)
    except FileNotFoundError:
        durable.make_folders(path.rpartition("/")[0], store_fd)
        made = durable.create(path, data, store_fd)
    if not made and durable.read_file(path, store_fd) != data:
        durable.replace(path, data, store_fd, sync=False)


def read_manifest(store_fd: int, path: str) -> bytes | None:
    """The bytes of a manifest, or None if they are absent: no file, or not what the name says."""
    name = parse_manifest_path(path)
    try:
        data = durable.read_file(path, store_fd)
    except FileNotFoundError:
        return None
    return data if name is not None and file_hash(data) == name.hash16 else None


def iter_manifests(store_fd: int) -> Iterator[str]:
    """The paths of all manifests, matching or not, in the order of their names."""
    for folder in sorted(durable.list_names(MANIFESTS, store_fd)):
        for name in sorted(durable.list_names(f"{MANIFESTS}/{folder}", store_fd)):
            path = f"{MANIFESTS}/{folder}/{name}"
            if parse_manifest_path(path) is not None:
                yield path
