"""Manifests below `manifests/`, loose or in packs: put, read, list.

Derived and never synced: bytes that do not match the name count as absent and are written anew.

Spec: spec/manifest.md; spec/layout.md sections 2 and 3; spec/packs.md section 4.
"""

from __future__ import annotations

from collections.abc import Iterator

from tracker._codec.frame import file_hash
from tracker._disk import durable
from tracker._model.names import MANIFESTS, parse_manifest_path
from tracker._store import packs

_MAKES_MAX = 20


def put_manifest(store_fd: int, path: str, data: bytes) -> None:
    """Write `data` under its content name, if it is not there already.

    Crash states: nothing, or a part of the bytes under the name, which counts as absent.
    Cost: one create, 15 µs. Raises: StorageError.
    """
    made = _create(path, data, store_fd)
    if not made and _read_loose(store_fd, path) != data:
        durable.replace(path, data, store_fd, sync=False)


def _create(path: str, data: bytes, store_fd: int) -> bool:
    """Create with the folder it lacks, which whoever packs may remove while it is empty."""
    for _ in range(_MAKES_MAX):
        try:
            return durable.create(path, data, store_fd)
        except FileNotFoundError:
            durable.make_folders(path.rpartition("/")[0], store_fd)
    return durable.create(path, data, store_fd)


def read_manifest(store_fd: int, path: str) -> bytes | None:
    """The bytes of a manifest, or None if they are absent: nowhere here, or not what the name says."""
    name = parse_manifest_path(path)
    data = None if name is None else read_bytes(store_fd, path)
    return data if name is not None and data is not None and file_hash(data) == name.hash16 else None


def read_bytes(store_fd: int, path: str) -> bytes | None:
    """The bytes of a manifest's first sound copy, else of its first, the loose one before those in packs.

    None if it is nowhere. Cost: 10 µs. Raises: StorageError.
    """
    known = packs.read_known(MANIFESTS, store_fd, path)
    if known is not None:
        return known
    loose = _read_loose(store_fd, path)
    if loose is not None and packs.is_sound(path, loose):
        return loose
    copies = [copy.data for copy in packs.iter_copies(MANIFESTS, store_fd, path)]
    sound = (data for data in copies if packs.is_sound(path, data))
    return next(sound, copies[0] if loose is None and copies else loose)


def _read_loose(store_fd: int, path: str) -> bytes | None:
    try:
        return durable.read_file(path, store_fd)
    except FileNotFoundError:
        return None


def iter_manifests(store_fd: int) -> Iterator[str]:
    """The paths of all manifests, matching or not, in the order of their names."""
    tables = packs.look(MANIFESTS, store_fd).values()
    packed = {path for table in tables for path in table.members}
    yield from sorted(packed.union(iter_loose(store_fd)))


def iter_loose(store_fd: int) -> Iterator[str]:
    """The paths of those that lie under their own names, in the order of these."""
    for folder in sorted(durable.list_names(MANIFESTS, store_fd)):
        if len(folder) != _FOLDER_DIGITS:  # a pack
            continue
        for name in sorted(durable.list_names(f"{MANIFESTS}/{folder}", store_fd)):
            path = f"{MANIFESTS}/{folder}/{name}"
            if parse_manifest_path(path) is not None:
                yield path


_FOLDER_DIGITS = 2
