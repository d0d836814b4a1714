"""One file that holds many: a tar, plain or compressed, or a zip, written as a stream of members.

The same members give the same bytes: no clock, no user, no order of a folder. Knows names and bytes, not what
they mean. Writes to a temporary file beside the archive, which has its name only when it is whole and synced.

Spec: spec/bundle.md section 3.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import IO, Any, NamedTuple, Protocol, cast

from blake3 import blake3

from tracker._disk import copying, durable
from tracker._disk.hashing import READ
from tracker._model.names import temporary_name
from tracker.bundle.contents import Member
from tracker.errors import DamagedError, NameRefusedError, StorageError, TrackerError
from tracker.runs.frames import MissingPackageError

EXTRA = "bundle"
KINDS = (".tar.zst", ".tar.gz", ".tar", ".zip")

_CHUNK_BYTES = 1 << 20
_LEVEL_GZIP, _LEVEL_ZSTD = 6, 10
_ZIP_FIRST = datetime(1980, 1, 1, tzinfo=UTC)
_ZIP_LAST = datetime(2107, 12, 31, tzinfo=UTC)
_ZIP64_FROM = 1 << 31

Heed = Callable[[int], object]
"""Is told how many bytes more are done."""


class Copied(NamedTuple):
    """A member as it stands in the archive."""

    path: str
    size_bytes: int
    blake3: str
    sha256: str


class UnfitError(TrackerError):
    """The bytes of a member are not those it must have. What was written of it is worthless."""


def kind_of(path: str) -> str:
    """Which of `KINDS` an archive is, by its name. Raises: NameRefusedError."""
    found = next((kind for kind in KINDS if path.endswith(kind) and os.path.basename(path) != kind), None)
    if found is None:
        raise NameRefusedError("archive", path, f"its name ends in none of {', '.join(KINDS)}")
    return found


class Archive(Protocol):
    """What takes members one after another."""

    def add(self, name: str, size_bytes: int, mode: int, read: Callable[[int], bytes]) -> None:
        """Take a member of just this many bytes."""


@contextmanager
def written(path: str, kind: str, time_s: int, *, force: bool) -> Iterator[Archive]:
    """An archive that has its name when the block is left without an error; else nothing of it is left.

    System calls: create tmp, write…, fsync, close, link and unlink (with `force` rename), fsync folder. Crash
    states: a `tmp-…`, or the whole archive; where `force` replaces one, the old one or the new one.
    Raises: StorageError, with EEXIST where a file has the name meanwhile; MissingPackageError.
    """
    folder, name = os.path.split(os.path.abspath(path))
    dir_fd = durable.open_root(folder)
    try:
        temporary = temporary_name(os.urandom(8))
        out = _Out(durable.open_new(temporary, dir_fd), path)
        try:
            try:
                with ExitStack() as stack:
                    yield _open(out, kind, time_s, stack)
                out.sync()
            finally:
                out.close()
            _give_name(temporary, name, dir_fd, path, force=force)
        except BaseException:
            copying.drop(temporary, dir_fd)
            raise
    finally:
        durable.close_read(dir_fd)


def _give_name(temporary: str, name: str, dir_fd: int, path: str, *, force: bool) -> None:
    if force:
        try:
            os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except OSError as error:
            raise durable.as_storage_error(error, path, "write") from error
        durable.sync_folder("", dir_fd)
    elif not copying.place(temporary, name, dir_fd):
        raise durable.as_storage_error(FileExistsError(17, "File exists"), path, "write")


class _Out(io.RawIOBase):
    """The temporary file, as compressors write to a stream that they cannot turn back."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return durable.write_all(self._fd, data)
        except OSError as error:
            raise durable.as_storage_error(error, self._path, "write") from error

    def sync(self) -> None:
        try:
            durable.sync_data(self._fd)
        except OSError as error:
            raise durable.as_storage_error(error, self._path, "sync") from error

    def close(self) -> None:
        if not self.closed:
            super().close()
            with suppress(OSError):  # synced before, or thrown away
                os.close(self._fd)


def _open(out: _Out, kind: str, time_s: int, stack: ExitStack) -> Archive:
    if kind == ".zip":
        return _Zip(stack.enter_context(zipfile.ZipFile(cast(IO[bytes], out), "w", allowZip64=True)), time_s)
    stream: Any = out
    if kind == ".tar.gz":
        stream = stack.enter_context(
            gzip.GzipFile("", "wb", _LEVEL_GZIP, fileobj=cast(IO[bytes], out), mtime=0)
        )
    elif kind == ".tar.zst":
        stream = stack.enter_context(_zstandard(out))
    return _Tar(stack.enter_context(_tar(stream)), time_s)


def _tar(stream: Any) -> tarfile.TarFile:
    return tarfile.open(fileobj=stream, mode="w|", bufsize=_CHUNK_BYTES, format=tarfile.PAX_FORMAT)


def _zstandard(out: _Out) -> Any:
    try:  # third-party, and need not be installed
        import zstandard
    except ImportError as error:
        raise MissingPackageError("zstandard", EXTRA) from error
    return zstandard.ZstdCompressor(level=_LEVEL_ZSTD).stream_writer(cast(IO[bytes], out), closefd=False)


class _Tar:
    def __init__(self, tar: tarfile.TarFile, time_s: int) -> None:
        self._tar = tar
        self._time_s = time_s

    def add(self, name: str, size_bytes: int, mode: int, read: Callable[[int], bytes]) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size_bytes, mode, self._time_s
        self._tar.addfile(info, cast(IO[bytes], _Readable(read)))


class _Readable:
    """What tarfile asks of a file."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read


class _Zip:
    def __init__(self, zip_: zipfile.ZipFile, time_s: int) -> None:
        self._zip = zip_
        time = min(max(datetime.fromtimestamp(time_s, UTC), _ZIP_FIRST), _ZIP_LAST)
        self._time = (time.year, time.month, time.day, time.hour, time.minute, time.second)

    def add(self, name: str, size_bytes: int, mode: int, read: Callable[[int], bytes]) -> None:
        info = zipfile.ZipInfo(name, self._time)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.create_system = 3
        info.external_attr = (stat.S_IFREG | mode) << 16
        with self._zip.open(info, "w", force_zip64=size_bytes >= _ZIP64_FROM) as target:
            while data := read(_CHUNK_BYTES):
                target.write(data)


def copy(archive: Archive, name: str, member: Member, heed: Heed) -> Copied:
    """Take a member's bytes into the archive under `name`, and hold them against what they must be.

    Cost: one read, BLAKE3 and SHA-256 of every byte; memory for two pieces of 1 MiB.
    Raises: UnfitError; StorageError where the archive cannot be written.
    """
    if not isinstance(member.source, str):
        try:
            data = member.source()
        except (DamagedError, StorageError) as error:
            raise UnfitError(str(error)) from error
        return _taken(archive, name, member, len(data), io.BytesIO(data).read, heed)
    try:
        fd = os.open(member.source, READ)
    except OSError as error:
        raise UnfitError(_why(error)) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UnfitError("it is no regular file")
        return _taken(archive, name, member, status.st_size, lambda n: os.read(fd, n), heed)
    finally:
        durable.close_read(fd)


def _why(error: OSError) -> str:
    is_gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    return "it is missing" if is_gone else f"it cannot be read: {error.strerror or error}"


def _taken(
    archive: Archive, name: str, member: Member, size: int, read: Callable[[int], bytes], heed: Heed
) -> Copied:
    if member.size_bytes is not None and member.size_bytes != size:
        raise UnfitError(f"{size} bytes, sealed as {member.size_bytes}")
    exact = _Exact(read, size, heed)
    archive.add(name, size, member.mode, exact.read)
    why = exact.end()
    if why:
        raise UnfitError(why)
    if member.digest is not None and exact.blake3.digest() != member.digest:
        found = exact.blake3.hexdigest()[:16]
        raise UnfitError(f"BLAKE3 {found}…, sealed as {member.digest.hex()[:16]}…")
    return Copied(member.path, size, exact.blake3.hexdigest(), exact.sha256.hexdigest())


class _Exact:
    """Just so many bytes of a file, hashed as they pass. What it lacks is zeros, and told at the end."""

    def __init__(self, read: Callable[[int], bytes], size_bytes: int, heed: Heed) -> None:
        self.blake3 = blake3()
        self.sha256 = hashlib.sha256()
        self._read = read
        self._left = size_bytes
        self._heed = heed
        self._why = ""

    def read(self, limit: int) -> bytes:
        data = self._next(min(limit, self._left, _CHUNK_BYTES))
        self.blake3.update(data)
        self.sha256.update(data)
        self._left -= len(data)
        self._heed(len(data))
        return data

    def _next(self, limit: int) -> bytes:
        if not limit:
            return b""
        data = b""
        try:
            while len(data) < limit and not self._why:
                piece = self._read(limit - len(data))
                data += piece
                self._why = "" if piece else "it was cut short while it was read"
        except OSError as error:
            self._why = _why(error)
        return data.ljust(limit, b"\0")

    def end(self) -> str:
        """What is wrong, now that all is read."""
        if self._why:
            return self._why
        try:
            return "it grew while it was read" if self._read(1) else ""
        except OSError as error:
            return _why(error)
