"""The few verbs that change a disk, made durable; above each the system calls it makes, in order.

It knows folders, names and bytes, never what the bytes mean. A name is relative to a folder's descriptor
`dir_fd` and may have folders of its own, so a tree that is renamed under a living process is still the
same tree. Every other part of the package writes through here.

What the system refuses is raised as StorageError, and what is not there as one that is a FileNotFoundError
too. Only the verbs on a bare descriptor (`write_all`, `sync_data`) raise OSError as it comes: their caller
knows the name, for `as_storage_error`. Interrupted calls are resumed by Python (PEP 475), short writes are
gone on with, and a failed fsync is never tried again: the kernel would answer success and the bytes be gone.

A link at the last part of a name is not followed unless the verb says so. For the parts before it there is
`open_folder`, which follows none.

LIMIT: Linux and macOS; Windows has no descriptors of folders.
LIMIT: a folder that its file system cannot sync (EINVAL, ENOTSUP) counts as synced.
LIMIT: a process killed between two calls leaves a file `tmp-<hex>`; readers ignore it.

Spec: spec/layout.md sections 2, 3 and 8.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from contextlib import suppress

from tracker._model.names import temporary_name
from tracker.errors import StorageError

READ_ONLY = 0o444

Bytes = bytes | bytearray | memoryview

_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


def open_root(path: str) -> int:
    """Open a folder by an ordinary path, following links; the caller closes the descriptor.

    Raises: StorageError.
    """
    # open(O_DIRECTORY)
    with _told("open", path):
        return os.open(path, _FOLDER)


def open_folder_fd(path: str, dir_fd: int) -> int:
    """Open a folder below `dir_fd`, no part of which may be a link; the caller closes the descriptor.

    Raises: StorageError, with ENOTDIR for a link.
    """
    # openat(O_DIRECTORY|O_NOFOLLOW) for each part
    assert not path.startswith("/") and ".." not in path.split("/"), f"{path} leads out of the folder"
    with _told("open", path, dir_fd):
        fd = os.open(".", _FOLDER, dir_fd=dir_fd)
        for part in path.split("/") if path else []:
            above = fd
            try:
                fd = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
            finally:
                os.close(above)
        return fd


def make_folder(path: str, dir_fd: int) -> bool:
    """Make one folder; False if it is there already, by its own name or by a link to it.

    Not synced: `sync_folder` of the folder above does that.
    """
    # mkdirat; if refused, fstatat
    with _told("make", path, dir_fd):
        return _make(path, dir_fd)


def make_folders(path: str, dir_fd: int) -> list[str]:
    """Make `path` and the folders it lacks between `dir_fd` and it; give those made, the uppermost first.

    Nothing is made above `dir_fd`: if that folder was removed, this fails and no ghost of it appears.
    A failure half-way leaves the upper ones, empty.

    Cost: two system calls if the folder is there.
    """
    # mkdirat of the last; on ENOENT of its parent first
    assert not path.startswith("/") and ".." not in path.split("/"), f"{path} leads out of the folder"
    if not path:
        return []
    with _told("make", path, dir_fd):
        return _make_with_parents(path, dir_fd)


def _make_with_parents(path: str, dir_fd: int) -> list[str]:
    above = path.rpartition("/")[0]
    made: list[str] = []
    try:
        is_new = _make(path, dir_fd)
    except FileNotFoundError:
        if not above:
            raise
        made = _make_with_parents(above, dir_fd)
        is_new = _make(path, dir_fd)
    return [*made, path] if is_new else made


def _make(path: str, dir_fd: int) -> bool:
    try:
        os.mkdir(path, dir_fd=dir_fd)
    except OSError:
        # Not only EEXIST: on a read-only or foreign mount another refusal may come first.
        if _is_folder(path, dir_fd):
            return False
        raise
    return True


def _is_folder(path: str, dir_fd: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path, dir_fd=dir_fd).st_mode)
    except OSError:
        return False


def create(name: str, data: Bytes, dir_fd: int, mode: int = READ_ONLY) -> bool:
    """Make a file that must not exist yet; False, and nothing changed, if it does.

    Not synced. After a crash the name may hold nothing, zeros or a prefix of `data`, so this is for derived
    files, whose readers can tell. If a write fails the file is removed again.
    """
    # openat(O_CREAT|O_EXCL|O_WRONLY), write…, close; on failure unlinkat
    with _told("write", name, dir_fd):
        try:
            _create_whole(name, data, dir_fd, mode, sync=False)
        except FileExistsError:
            return False
    return True


def replace(name: str, data: Bytes, dir_fd: int, *, sync: bool, mode: int = READ_ONLY) -> None:
    """Put `data` under `name`, whatever was there; every reader sees the old bytes whole or the new.

    With `sync` this holds through a power cut too, and the new ones stay once this returns. Without, a power
    cut may leave an empty file. If anything fails before the rename the old file stands.
    """
    # openat(tmp), write…, [fsync], close, renameat, [fsync folder]; on failure unlinkat(tmp)
    with _told("write", name, dir_fd):
        temporary = _write_beside(name, data, dir_fd, mode, sync=sync)
        try:
            os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            _drop(temporary, dir_fd)
            raise
        if sync:
            _sync_folder(_folder_of(name), dir_fd)


def publish(name: str, data: Bytes, dir_fd: int, mode: int = READ_ONLY) -> bool:
    """Put `data` under a name that its content gave; True if it was not there, else what is there stays.

    When this returns a name that it made stands through a power cut. A file that was there is not opened:
    it is the caller who knows whether its bytes are right.

    Crash states: before the rename a `tmp-…` that readers ignore, and no name; after it the whole file,
    since its bytes were synced before its name appeared. The rename itself lasts from the sync of the
    folder on. Publishing again is safe: two who publish at once write the same bytes, so the rename that
    comes second changes nothing.

    Raises: MaybeVisibleError when the rename or the sync after it was refused; StorageError before that.
    """
    # openat(tmp), write…, fsync, close, fstatat(name), renameat or unlinkat(tmp), fsync folder
    with _told("publish", name, dir_fd):
        temporary = _write_beside(name, data, dir_fd, mode, sync=True)
        is_new = False
        try:
            is_new = not _is_there(name, dir_fd)
        finally:
            if not is_new:
                _drop(temporary, dir_fd)
    try:
        with _told("publish", name, dir_fd):
            if is_new:
                _rename_or_drop(temporary, name, dir_fd)
            _sync_folder(_folder_of(name), dir_fd)
    except StorageError as error:
        raise MaybeVisibleError(error.errno, error.path, error.doing, error.reason, error.cure) from error
    return is_new


def _rename_or_drop(temporary: str, name: str, dir_fd: int) -> None:
    try:
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        _drop(temporary, dir_fd)
        raise


def _folder_of(name: str) -> str:
    return name.rpartition("/")[0]


def _write_beside(name: str, data: Bytes, dir_fd: int, mode: int, *, sync: bool) -> str:
    """Write a temporary file in the folder of `name` and give its name."""
    folder = _folder_of(name)
    last = temporary_name(os.urandom(8))
    temporary = f"{folder}/{last}" if folder else last
    _create_whole(temporary, data, dir_fd, mode, sync=sync)
    return temporary


def _create_whole(name: str, data: Bytes, dir_fd: int, mode: int, *, sync: bool) -> None:
    """Make a file with all of `data`, or none; closing is part of it, as NFS reports a full disk there."""
    fd = os.open(name, _CREATE, mode, dir_fd=dir_fd)
    try:
        try:
            write_all(fd, data)
            if sync:
                _sync(fd)
        except BaseException:
            with suppress(OSError):
                os.close(fd)
            raise
        os.close(fd)
    except BaseException:
        _drop(name, dir_fd)
        raise


def _drop(name: str, dir_fd: int) -> None:
    with suppress(OSError):  # the first failure is the one to tell
        os.unlink(name, dir_fd=dir_fd)


def link(existing: str, name: str, dir_fd: int) -> bool:
    """Give a file a second name that must not exist yet; False, and nothing changed, if it does.

    The name appears with the whole file behind it, or not at all. Not synced.

    Raises: StorageError; one for which `cannot_link` is true where the file system has no hard links.
    """
    # linkat
    with _told("link", name, dir_fd):
        try:
            os.link(existing, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
        except FileExistsError:
            return False
    return True


def cannot_link(error: StorageError) -> bool:
    """True if the file system has no hard links, or no more for this file."""
    return error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def open_file_fd(name: str, dir_fd: int) -> int:
    """Open a file for reading and for `touch`; the caller closes the descriptor. Raises: StorageError."""
    # openat(O_RDONLY|O_NOFOLLOW|O_NONBLOCK)
    with _told("open", name, dir_fd):
        return os.open(name, _READ | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)


def touch(fd: int) -> os.stat_result:
    """Set the modification time of an open file to the file server's now, and tell what the file is then.

    Raises: OSError as it comes.
    """
    # utimensat(fd, NULL), fstat
    os.utime(fd)
    return os.fstat(fd)


def touch_path(name: str, dir_fd: int) -> None:
    """The same for a file by its name. Raises: StorageError."""
    # utimensat(NULL)
    with _told("touch", name, dir_fd):
        os.utime(name, dir_fd=dir_fd, follow_symlinks=False)


def open_new(name: str, dir_fd: int, mode: int = 0o644) -> int:
    """Create a file that must not exist and give a descriptor that only appends; the caller closes it.

    Raises: StorageError, with EEXIST if it exists.
    """
    # openat(O_CREAT|O_EXCL|O_WRONLY|O_APPEND)
    with _told("create", name, dir_fd):
        return os.open(name, _CREATE | os.O_APPEND, mode, dir_fd=dir_fd)


def write_all(fd: int, data: Bytes) -> int:
    """Write every byte of `data`, going on after short writes; give their number.

    Raises: OSError as it comes; some of the bytes may then be in the file.
    """
    # write…
    # The view is released even on failure: a bytearray could not grow or shrink while it lived.
    with memoryview(data).cast("B") as view:
        done = 0
        while done < len(view):
            written = os.write(fd, view[done:])
            if written == 0:
                raise OSError(errno.EIO, "a write wrote nothing")
            done += written
    return done


def sync_data(fd: int) -> None:
    """Bring the bytes of an open file to the disk, and of its metadata what reading them needs.

    After a failure the descriptor is dead: write the bytes elsewhere, do not sync again.

    Raises: OSError as it comes.
    """
    # fdatasync; on macOS fcntl(F_FULLFSYNC)
    if sys.platform == "darwin":
        _sync(fd)
    else:
        os.fdatasync(fd)


def sync_file(path: str, dir_fd: int) -> None:
    """Bring the bytes of a file that someone else wrote to the disk. A link is followed.

    Raises: StorageError.
    """
    # openat(O_RDONLY|O_NONBLOCK), fsync, close
    # A named pipe would keep a blocking open waiting for its other end.
    with _told("sync", path, dir_fd):
        fd = os.open(path, _READ | os.O_NONBLOCK, dir_fd=dir_fd)
        try:
            _sync_if_able(fd)
        finally:
            os.close(fd)


def sync_folder(path: str, dir_fd: int) -> None:
    """Bring the names in a folder to the disk; "" is `dir_fd` itself.

    Raises: StorageError.
    """
    # openat(O_DIRECTORY), fsync, close
    with _told("sync", path, dir_fd):
        _sync_folder(path, dir_fd)


def _sync_folder(path: str, dir_fd: int) -> None:
    fd = os.open(path or ".", _FOLDER, dir_fd=dir_fd)
    try:
        _sync_if_able(fd)
    finally:
        os.close(fd)


def _sync_if_able(fd: int) -> None:
    """Sync what can be synced: a folder of some file systems, and a device, cannot."""
    try:
        _sync(fd)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _sync(fd: int) -> None:
    if sys.platform == "darwin":
        # Here fsync leaves the bytes in the cache of the disk. SMB knows only fsync.
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(fd)


def read_file(path: str, dir_fd: int) -> bytes:
    """Read a whole file.

    Raises: StorageError, with ELOOP for a link.
    """
    return read_from(path, dir_fd, 0)


def read_from(path: str, dir_fd: int, start: int) -> bytes:
    """Read a file from byte `start` to its end, which gives nothing where it is shorter.

    Raises: StorageError, with ELOOP for a link.
    """

    # openat(O_RDONLY|O_NOFOLLOW|O_NONBLOCK), [lseek], read…, close
    def open_below(name: str, _: int) -> int:
        return os.open(name, _READ | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)

    with _told("read", path, dir_fd):
        try:
            with open(path, "rb", buffering=0, opener=open_below) as file:
                if start:  # a named pipe cannot seek
                    file.seek(start)
                return file.read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            # On NFS another client removed it between our open and our read: it is not there.
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error


def list_names(path: str, dir_fd: int) -> list[str]:
    """List the names in a folder, in no order; "" is `dir_fd` itself.

    Without a folder of this name (nothing there, a file, or a link) the list is empty.

    Raises: StorageError.
    """
    # openat(O_DIRECTORY|O_NOFOLLOW), getdents…, close
    # Opened anew for "" too: threads that list one descriptor share its position.
    with _told("list", path, dir_fd):
        try:
            fd = os.open(path or ".", _FOLDER | os.O_NOFOLLOW, dir_fd=dir_fd)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)


def list_files(path: str, dir_fd: int) -> list[str]:
    """List the regular files in a folder: no folders, links or pipes. Otherwise as `list_names`."""
    # openat(O_DIRECTORY|O_NOFOLLOW), getdents…, close; fstatat where the system does not tell a name's kind
    with _told("list", path, dir_fd):
        try:
            fd = os.open(path or ".", _FOLDER | os.O_NOFOLLOW, dir_fd=dir_fd)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            with os.scandir(fd) as entries:
                return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        finally:
            os.close(fd)


def stat_at(path: str, dir_fd: int) -> os.stat_result:
    """Tell what the system knows of a name; "" is `dir_fd` itself. A link is not followed.

    Raises: StorageError.
    """
    # fstatat(AT_SYMLINK_NOFOLLOW) or fstat
    with _told("look up", path, dir_fd):
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False) if path else os.stat(dir_fd)


def stat_followed(path: str, dir_fd: int) -> os.stat_result:
    """The same, but a link is followed."""
    # fstatat
    with _told("look up", path, dir_fd):
        return os.stat(path, dir_fd=dir_fd)


def stat_path(path: str) -> os.stat_result:
    """Tell what the system knows of an ordinary path, links followed. Raises: StorageError."""
    # stat
    with _told("look up", path):
        return os.stat(path)


def path_exists(path: str) -> bool:
    """Tell whether an ordinary path leads to something, links followed. Raises: StorageError."""
    try:
        stat_path(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def close_read(fd: int) -> None:
    """Close a folder, or a file that was only read: nothing is lost if the system refuses."""
    with suppress(OSError):
        os.close(fd)


def exists(path: str, dir_fd: int) -> bool:
    """Tell whether a name is there, whatever it is. A link counts as itself."""
    # fstatat(AT_SYMLINK_NOFOLLOW)
    with _told("look up", path, dir_fd):
        return _is_there(path, dir_fd)


def _is_there(name: str, dir_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def is_cut_short(found: bytes, whole: bytes) -> bool:
    """Tell whether `found` is what a crash may leave of an unsynced `whole`: a proper prefix, or zeros.

    Spec: spec/layout.md sections 2 and 4.
    """
    is_prefix = len(found) < len(whole) and whole.startswith(found)
    return is_prefix or found.count(0) == len(found)


def unlink_if_there(path: str, dir_fd: int) -> bool:
    """Remove a name; False if it was not there. Not synced: after a power cut it may be back."""
    # unlinkat
    with _told("remove", path, dir_fd):
        try:
            os.unlink(path, dir_fd=dir_fd)
        except FileNotFoundError:
            return False
    return True


class MaybeVisibleError(StorageError):
    """A name may be visible, though not known to be synced: only the same bytes may ever come under it."""


class _MissingError(StorageError, FileNotFoundError):
    """The same for what is not there, so that either `except` catches it."""


class _NotAFolderError(StorageError, NotADirectoryError):
    """The same for a path through what is no folder."""


def as_storage_error(error: OSError, path: str, doing: str) -> StorageError:
    """Make of an error of the system one that says what was refused and the cure.

    raise as_storage_error(error, "results/params.json", "write") from error
    """
    if isinstance(error, StorageError):
        return error
    kind: type[StorageError] = StorageError
    if isinstance(error, FileNotFoundError):
        kind = _MissingError
    elif isinstance(error, NotADirectoryError):
        kind = _NotAFolderError
    reason = error.strerror or str(error)
    return kind(error.errno, path, doing, reason, _CURES.get(error.errno or 0, _NO_CURE))


def shown_path(path: str, dir_fd: int) -> str:
    """Give the whole path for a message, where the system tells the folder's; else `path` itself."""
    # readlink(/proc/self/fd/…)
    try:
        folder = os.readlink(f"/proc/self/fd/{dir_fd}")
    except OSError:
        return path or "."
    return f"{folder}/{path}" if path else folder


class _told:
    """Raise what the system refuses within as StorageError. A class, as a generator costs 2 µs more."""

    __slots__ = ("_dir_fd", "_doing", "_path")

    def __init__(self, doing: str, path: str, dir_fd: int | None = None) -> None:
        self._doing, self._path, self._dir_fd = doing, path, dir_fd

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            path = self._path if self._dir_fd is None else shown_path(self._path, self._dir_fd)
            raise as_storage_error(error, path, self._doing) from error


_NO_CURE = "look the reason up in the manual of the system"
_CURES = {
    errno.ENOSPC: "free space or inodes on the file system",
    errno.EDQUOT: "the user's quota is used up: remove files or ask for more",
    errno.EROFS: "mount the file system for writing, or use a root elsewhere",
    errno.EACCES: "give this user the right to it",
    errno.EPERM: "give this user the right to it",
    errno.EIO: "the disk failed; read the system's log and copy the tree to another disk",
    errno.EFBIG: "the file passes a limit of size: raise it (ulimit -f) or use another file system",
    errno.ENOENT: "a folder of this path is gone; was the tree moved or removed?",
    errno.ENOTDIR: "where a folder belongs there is a file or a link: move it away",
    errno.EEXIST: "something else of this name is there: move it away",
    errno.EISDIR: "where a file belongs there is a folder: move it away",
    errno.ELOOP: "links are not followed here: put the file itself in its place",
    errno.EMFILE: "this process has too many files open: close some or raise the limit (ulimit -n)",
    errno.ENFILE: "the system has too many files open: close some",
    errno.ENAMETOOLONG: "use a root with a shorter path",
    errno.ESTALE: "the file server no longer knows this folder: mount it again",
    errno.ENOMEM: "free memory",
}
