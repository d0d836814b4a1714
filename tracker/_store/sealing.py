"""What a run wrote, as it is recorded when an attempt ends: each file with its size and its BLAKE3 digest.

Knows paths below the root and bytes. Users' files are read, never written.

Spec: spec/sealing.md sections 1 to 4.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tracker._disk import durable, hashing
from tracker._disk.hashing import digest_of, read_head
from tracker._model.event import Attachment, File
from tracker._model.names import STORE, parse_object_path
from tracker._model.policy import WHOLE, SealPolicy
from tracker._store.stat_cache import StatCache
from tracker.errors import NameRefusedError
from tracker.progress import Bar, on_stderr
from tracker.terms import Seal

CACHED_FROM = 1 << 20
"""A shorter file is hashed in the time that it takes to remember it."""

Facts = tuple[int | None, bytes | None]
"""Size and digest, where they are known."""

_NOTHING: Facts = (None, None)


def seal_files(root: Path, files: Iterable[Attachment], policy: SealPolicy = WHOLE) -> list[File]:
    """The files as they are now: size and digest, folders file by file.

    One that was attached and does not exist has neither. A person at a terminal sees how far it is, if it
    takes more than a second.

    Cost: 9 µs a file of 4 KiB in page cache; long ones at the speed of BLAKE3 on all cores, and those that
    have not changed since they were hashed 30 µs.
    Raises: StorageError when one cannot be read; NameRefusedError for a name in a folder that is not UTF-8.
    """
    asked = list(files)
    with on_stderr() as bar, StatCache(str(root)) as cache:
        sealing = _Sealing(str(root), policy, cache, bar)
        for number, file in enumerate(asked):
            sealing.add(file, _Share(0.0, 1.0).part(number, len(asked)))
        return sealing.sealed


class _Share(NamedTuple):
    """A part of the whole work, from `start` on; the whole is 1."""

    start: float
    width: float

    def part(self, number: int, of: int) -> _Share:
        """The part of this number among so many that are alike."""
        width = self.width / of
        return _Share(self.start + number * width, width)


class _Sealing:
    """Files that are sealed one after another."""

    def __init__(self, root: str, policy: SealPolicy, cache: StatCache, bar: Bar) -> None:
        self.sealed: list[File] = []
        self._root = root
        self._how = policy.how
        self._hashed_max = policy.hashed_max_bytes
        self._cache = cache
        self._bar = bar

    def add(self, file: Attachment, share: _Share) -> None:
        """Seal what lies at the path of `file`."""
        place = os.path.join(self._root, file.path)
        try:
            self._add(file, place, share)
        except OSError as error:
            raise durable.as_storage_error(error, place, "seal") from error

    def _add(self, file: Attachment, place: str, share: _Share) -> None:
        name = None if file.external else parse_object_path(file.path.removeprefix(f"{STORE}/"))
        if name is not None:
            self._note(file, _facts_of_object(place, bytes.fromhex(name)))
            return
        if self._how is Seal.NONE:
            self._note(file, _NOTHING)
            return
        try:
            mode = os.stat(place).st_mode
        except FileNotFoundError:
            self._note(file, _NOTHING)
            return
        if stat.S_ISDIR(mode):
            self._add_folder(file, place, share)
        else:
            self._note(file, self._facts(place, None, share) if stat.S_ISREG(mode) else _NOTHING)

    def _note(self, file: Attachment, facts: Facts) -> None:
        self.sealed.append(File(file.name, file.path, *facts, file.external))

    def _add_folder(self, folder: Attachment, place: str, share: _Share) -> None:
        """Its files in the order of names, then the folders in it. A link to a folder is passed over."""
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            files, folders, odd = _listed(fd, folder.path)
            parts = max(len(files) + len(folders), 1)
            name_start, path_start = f"{folder.name}/", f"{folder.path}/"
            for number, name in enumerate(files):
                facts = _NOTHING if name in odd else self._facts(name, fd, share, number, parts)
                self.sealed.append(File(name_start + name, path_start + name, *facts, folder.external))
        finally:
            os.close(fd)
        for number, name in enumerate(folders, len(files)):
            below = Attachment(name_start + name, path_start + name, folder.external)
            self._add_folder(below, f"{place}/{name}", share.part(number, parts))

    def _facts(self, place: str, folder_fd: int | None, share: _Share, number: int = 0, of: int = 1) -> Facts:
        """Size and digest of a regular file, a part of `share`; neither if it is gone."""
        try:
            if self._how is Seal.SIZE:
                return os.stat(place, dir_fd=folder_fd).st_size, None
            fd = os.open(place, hashing.READ, dir_fd=folder_fd)
        except FileNotFoundError:
            return _NOTHING
        try:
            head, is_whole = read_head(fd)
            if not is_whole:
                return self._facts_of_long(fd, head, share.part(number, of))
            if not number & _TOLD_EVERY:
                self._tell(share.part(number, of))
            size = len(head)
            return size, digest_of(head) if size <= self._hashed_max else None
        except OSError as error:
            shown = place if folder_fd is None else durable.shown_path(place, folder_fd)
            raise durable.as_storage_error(error, shown, "seal") from error
        finally:
            os.close(fd)

    def _facts_of_long(self, fd: int, head: bytes, share: _Share) -> Facts:
        before = os.fstat(fd)
        if before.st_size > self._hashed_max:
            return before.st_size, None
        is_cached = before.st_size >= CACHED_FROM
        known = self._cache.find(fd, before) if is_cached else None
        if known is not None:
            return before.st_size, known
        size, digest = hashing.hash_on(
            fd, head, lambda done: self._tell(share, done / max(done, before.st_size))
        )
        if is_cached:
            self._cache.keep(fd, before, os.fstat(fd), digest)
        return size, digest

    def _tell(self, share: _Share, done: float = 0.0) -> None:
        self._bar("sealing", int(_PARTS * (share.start + share.width * done)), _PARTS)


_PARTS = 1_000_000
_TOLD_EVERY = 0xFF


def _facts_of_object(place: str, digest: bytes) -> Facts:
    """An object's name is its digest: it is not read again."""
    try:
        return os.stat(place).st_size, digest
    except FileNotFoundError:
        return _NOTHING


class _Listed(NamedTuple):
    """Names in a folder, in order. Of the files those that are `odd` are not regular, links followed."""

    files: list[str]
    folders: list[str]
    odd: set[str]


def _listed(fd: int, shown: str) -> _Listed:
    files: list[str] = []
    folders: list[str] = []
    odd: set[str] = set()
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if not name.isascii():
                _refuse_unless_utf8(name, shown)
            if entry.is_file():
                files.append(name)
            elif not entry.is_dir():
                files.append(name)
                odd.add(name)
            elif not entry.is_symlink():
                folders.append(name)
    return _Listed(sorted(files), sorted(folders), odd)


def _refuse_unless_utf8(name: str, folder: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise NameRefusedError("file name", name, f"in {folder} is not UTF-8", "rename it") from error
