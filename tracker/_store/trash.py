"""The files of removed runs below `trash/`: where they lie, and which are there.

Knows paths, not why a file was removed, nor when it may go for good.

Spec: spec/layout.md section 9.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from tracker._codec.digest import digest
from tracker._disk import durable
from tracker._model.names import STORE
from tracker.terms import RunRef, Uid

TRASH = "trash"


class TrashName(NamedTuple):
    """What the path of a run's trash says: number 0 is its last removal, others were set aside before it."""

    uid: Uid
    ref16: str
    number: int


def trash_folder(ref: RunRef, number: int = 0) -> str:
    """Give the folder, below `.tracker`, of a removed run's files."""
    uid = ref[-32:]
    stem = f"{TRASH}/{uid[:2]}/{uid[2:]}-{ref16_of(ref)}"
    return f"{stem}.{number}" if number else stem


def ref16_of(ref: RunRef) -> str:
    """The first 16 hex digits of BLAKE3 of a ref: they tell apart the runs that share a uid."""
    return digest(ref.encode())[:16]


def parse_trash_folder(path: str) -> TrashName | None:
    """Read the path of a run's trash; None for every other path."""
    match = _TRASH.fullmatch(path)
    return match and TrashName(Uid(match[1] + match[2]), match[3], int(match[4] or 0))


_TRASH = re.compile(rf"{TRASH}/([0-9a-f]{{2}})/([0-9a-f]{{30}})-([0-9a-f]{{16}})(?:\.([1-9][0-9]{{0,17}}))?")


def iter_trash(store_fd: int) -> Iterator[str]:
    """The trash folders of all runs, in the order of their names."""
    for above in sorted(durable.list_names(TRASH, store_fd)):
        for name in sorted(durable.list_names(f"{TRASH}/{above}", store_fd)):
            path = f"{TRASH}/{above}/{name}"
            if parse_trash_folder(path) is not None:
                yield path


def free_folder(store_fd: int, ref: RunRef) -> str:
    """A folder to set a run's trash aside in."""
    taken = set(_beside(store_fd, trash_folder(ref)))
    number = 1
    while trash_folder(ref, number) in taken:
        number += 1
    return trash_folder(ref, number)


def _beside(store_fd: int, path: str) -> list[str]:
    above = path.rpartition("/")[0]
    return sorted(f"{above}/{name}" for name in durable.list_names(above, store_fd))


def iter_files(dir_fd: int, folder: str) -> Iterator[str]:
    """All files, links and other things below a folder, but for the folders, in the order of names.

    A folder in it that is a store of its own is passed over.
    """
    names = sorted(durable.list_names(folder, dir_fd))
    if STORE in names:
        return
    for name in names:
        path = f"{folder}/{name}"
        if is_folder(path, dir_fd):
            yield from iter_files(dir_fd, path)
        else:
            yield path


def iter_folders(dir_fd: int, folder: str) -> Iterator[str]:
    """The folder and those below it, the deepest first; links are no folders."""
    for name in sorted(durable.list_names(folder, dir_fd)):
        if is_folder(f"{folder}/{name}", dir_fd):
            yield from iter_folders(dir_fd, f"{folder}/{name}")
    yield folder


def is_folder(path: str, dir_fd: int) -> bool:
    """True for a folder; False for a link to one, and where nothing is."""
    try:
        return stat.S_ISDIR(durable.stat_at(path, dir_fd).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
