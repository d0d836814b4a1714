"""The folder in which the doctor tries things: made in the folder that is examined, and removed again.

LIMIT: a doctor killed by SIGKILL leaves it, `.tracker-doctor-<hex>`; it may be removed by hand.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from tracker._disk import durable

PREFIX = ".tracker-doctor-"
REMOVED_WITHIN_S = 5.0


class Scratch(Struct, frozen=True):
    """A folder of the doctor's own, by its path and as a descriptor."""

    path: str
    fd: int

    @contextmanager
    def room(self, name: str) -> Iterator[Scratch]:
        """A folder in it, for one probe alone. Raises: StorageError."""
        durable.make_folder(name, self.fd)
        with _opened(f"{self.path}/{name}") as room:
            yield room


@contextmanager
def scratch_in(folder: str) -> Iterator[Scratch]:
    """Have a scratch folder for the length of a `with`; it is gone after it, also on errors and Ctrl-C.

    Raises: StorageError where it cannot be made or removed.
    """
    path = os.path.join(folder, PREFIX + os.urandom(8).hex())
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise durable.as_storage_error(error, path, "make") from error
    try:
        with _opened(path) as scratch:
            yield scratch
    finally:
        _remove(path)


@contextmanager
def _opened(path: str) -> Iterator[Scratch]:
    fd = durable.open_root(path)
    try:
        yield Scratch(path, fd)
    finally:
        durable.close_read(fd)


def _remove(path: str) -> None:
    """Remove the folder with all in it; again for a while, where a listing lacks what was just made."""
    end = time.monotonic() + REMOVED_WITHIN_S
    while True:
        try:
            shutil.rmtree(path)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or time.monotonic() > end:
                raise durable.as_storage_error(error, path, "remove") from error
            time.sleep(0.1)
        else:
            return
