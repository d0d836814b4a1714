"""A file that a person asked for, beside or outside the store: whole, or as it was before."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tracker._disk import durable
from tracker._model.names import temporary_name


def write_whole(path: str | os.PathLike[str], pieces: Iterable[bytes]) -> None:
    """Write `pieces` to `path`, in place of what was there, synced. Nothing is there before all is written.

    Crash states: the old file, with a `tmp-…` beside it that nobody reads; or the new one, whole.
    Raises: StorageError; what `pieces` raises, with the old file in its place.
    """
    folder, name = os.path.split(os.path.abspath(path))
    dir_fd = durable.open_root(folder)
    temporary = temporary_name(os.urandom(8))
    try:
        fd = durable.open_new(temporary, dir_fd)
        try:
            for piece in pieces:
                durable.write_all(fd, piece)
            durable.sync_data(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        durable.sync_folder("", dir_fd)
    except OSError as error:
        raise durable.as_storage_error(error, os.fspath(path), "write") from error
    finally:
        durable.unlink_if_there(temporary, dir_fd)
        durable.close_read(dir_fd)
