"""Users' files that come from another tree: copied beside their place, and hashed on the way.

Knows paths below a root, bytes and digests; what ought to be where is decided above.

Spec: spec/merge.md section 6.
"""

from __future__ import annotations

from typing import NamedTuple

from blake3 import blake3

from tracker._disk import copying, durable

_CHUNK_BYTES = 1 << 20
_UID_BYTES = 16


class Arrived(NamedTuple):
    """A whole copy under a temporary name beside its place; `uid` is what a `params.json` names."""

    temporary: str
    size_bytes: int
    digest: bytes
    uid: str


class _Sum:
    """Size and hash of bytes as they pass."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.hasher = blake3()

    def heed(self, data: bytes) -> None:
        self.size_bytes += len(data)
        self.hasher.update(data)

    def told(self) -> tuple[int, bytes, str]:
        return self.size_bytes, self.hasher.digest(), self.hasher.hexdigest(length=_UID_BYTES)


def fetch(source: str, path: str, root_fd: int) -> Arrived:
    """Copy the file at the ordinary path `source` beside `path` below the root, with the folders it lacks.

    Crash states: some folders, a `tmp-…`. Raises: StorageError.
    Cost: one read, one write, one BLAKE3 pass and one fsync.
    """
    for made in durable.make_folders(path.rpartition("/")[0], root_fd):
        durable.sync_folder(made.rpartition("/")[0], root_fd)
    passed = _Sum()
    temporary = copying.copy_beside(source, path, root_fd, passed.heed)
    return Arrived(temporary, *passed.told())


def hash_whole(place: str) -> tuple[int, bytes, str]:
    """Size, digest and uid of a file at an ordinary path. Raises: OSError as it comes. Cost: one read."""
    passed = _Sum()
    with open(place, "rb", buffering=0) as file:
        while data := file.read(_CHUNK_BYTES):
            passed.heed(data)
    return passed.told()
