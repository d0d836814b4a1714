"""Claim files below `claims/`: a holder's own file, and the claims that are links to it.

Knows files and their names; which claim counts is `claim`'s, and when to take one is told above. Nothing
here is synced: claims need not outlive a power cut, since their holders do not.

Spec: spec/claims.md sections 3, 4 and 6.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from msgspec import Struct

from tracker._disk import durable
from tracker._model.claim import FoundClaim, Holder, decode_holder, encode_holder
from tracker._model.names import CLAIMS, claim_stem, parse_claim_path, parse_holder_path
from tracker.errors import DamagedError, StorageError
from tracker.terms import RunRef, WriterId

_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # a link, a folder, a socket
_NUMBER = r"[1-9][0-9]{0,17}"


class HolderFile(Struct, frozen=True):
    """A holder's file as it lies on disk."""

    writer: WriterId
    path: str
    mtime_ns: int
    holder: Holder | None


def make_claims_folder(store_fd: int) -> int:
    """Make `claims/` if need be, and give its inode number. Raises: StorageError."""
    durable.make_folder(CLAIMS, store_fd)
    return durable.stat_at(CLAIMS, store_fd).st_ino


def folder_inode(store_fd: int) -> int | None:
    """The inode number of `claims/`; None if there is none."""
    try:
        return durable.stat_at(CLAIMS, store_fd).st_ino
    except FileNotFoundError:
        return None


def put_holder(store_fd: int, path: str, holder: Holder) -> int:
    """Write a holder's file anew and give a descriptor to touch it by; the caller closes it.

    A file of this name, which a copy may have brought, is dropped first: claims linked to it keep its bytes.
    Crash states: nothing, or a file that is linked to nothing. Raises: StorageError.
    """
    # unlinkat, openat(O_CREAT|O_EXCL), write, close, openat
    durable.unlink_if_there(path, store_fd)
    durable.create(path, encode_holder(holder), store_fd, mode=0o644)
    return durable.open_file_fd(path, store_fd)


def iter_holders(store_fd: int) -> Iterator[HolderFile]:
    """The holders' files that are here."""
    for name in durable.list_names(CLAIMS, store_fd):
        path = f"{CLAIMS}/{name}"
        writer = parse_holder_path(path)
        if writer is None:
            continue
        try:
            mtime_ns = durable.stat_at(path, store_fd).st_mtime_ns
            yield HolderFile(writer, path, mtime_ns, _holder_at(store_fd, path))
        except FileNotFoundError:  # it ended meanwhile
            continue


def iter_claim_paths(store_fd: int) -> Iterator[str]:
    """The paths of all claims, in no order."""
    for folder in durable.list_names(CLAIMS, store_fd):
        for name in durable.list_names(f"{CLAIMS}/{folder}", store_fd):
            path = f"{CLAIMS}/{folder}/{name}"
            if parse_claim_path(path) is not None:
                yield path


def claim_numbers(store_fd: int, ref: RunRef) -> list[int]:
    """The numbers of a run's claims, rising; read anew, never from a cache. Cost: 8 µs."""
    folder, _, stem = claim_stem(ref).rpartition("/")
    heads = [name.rpartition(".") for name in durable.list_names(folder, store_fd) if name.startswith(stem)]
    return sorted(int(end) for head, _, end in heads if head == stem and re.fullmatch(_NUMBER, end))


def find_claim(store_fd: int, ref: RunRef, number: int) -> FoundClaim | None:
    """What lies under a claim's name; None if nothing does. Raises: StorageError."""
    path = f"{claim_stem(ref)}.{number}"
    try:
        status = durable.stat_at(path, store_fd)
        holder = _holder_at(store_fd, path)
    except FileNotFoundError:
        return None
    return FoundClaim(number, status.st_ino, status.st_mtime_ns, holder)


def _holder_at(store_fd: int, path: str) -> Holder | None:
    """The holder that a file tells of; None where its bytes say nothing. Raises: FileNotFoundError."""
    try:
        return decode_holder(durable.read_file(path, store_fd), path)
    except FileNotFoundError:
        raise
    except DamagedError:  # other bytes: its heartbeat alone counts
        return None
    except StorageError as error:
        if error.errno in _NO_FILE:
            return None
        raise


def put_claim(store_fd: int, path: str, holder_path: str, holder: Holder) -> int | None:
    """Make a claim that must not exist yet, and give its inode number; None if it does exist.

    A link to the holder's file, so that it appears whole or not at all; where there are no hard links, a
    file with the same bytes, which a crash may cut short.
    Cost: 12 µs. Raises: StorageError; FileNotFoundError if the holder's file is gone.
    """
    try:
        made = _put(store_fd, path, holder_path, holder)
    except FileNotFoundError:
        durable.make_folder(path.rpartition("/")[0], store_fd)
        made = _put(store_fd, path, holder_path, holder)
    return durable.stat_at(path, store_fd).st_ino if made else None


def _put(store_fd: int, path: str, holder_path: str, holder: Holder) -> bool:
    # linkat; where it is refused openat(O_CREAT|O_EXCL), write, close
    try:
        return durable.link(holder_path, path, store_fd)
    except StorageError as error:
        if not durable.cannot_link(error):
            raise
    return durable.create(path, encode_holder(holder), store_fd, mode=0o644)


def drop_claim(store_fd: int, path: str) -> None:
    """Remove a claim, if it is there. Raises: StorageError."""
    durable.unlink_if_there(path, store_fd)


def inode_at(store_fd: int, path: str) -> int | None:
    """The inode number of a claim; None if it is not there."""
    try:
        return durable.stat_at(path, store_fd).st_ino
    except FileNotFoundError:
        return None
