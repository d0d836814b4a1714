"""A file system in user space that is a folder shown through one flaw, mounted for the length of a `with`.

    python flawed_fs.py MOUNT_POINT FOLDER FLAW

Without a flaw ("none") it hands every call on to the folder behind it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unicodedata import normalize

import pytest

FLAWS = {
    "none": "nothing",
    "no-link": "link() is refused with EPERM, as on exFAT",
    "broken-link": "link() fails with EIO",
    "copied-link": "link() makes a copy",
    "folds-case": "names are the same in any case",
    "composes": "names are kept composed",
    "short-names": "a name has at most 143 bytes",
    "tiny-names": "a name has at most 60 bytes",
    "no-rename": "rename() fails with EIO",
    "fixed-folders": "a folder cannot be renamed",
    "stale-listing": "a name is listed half a second after it was made",
    "frozen-times": "time stamps never move",
    "coarse-times": "time stamps are whole and even seconds",
    "fast-clock": "the server's clock is an hour ahead",
    "no-file-sync": "fsync of a file is refused with EINVAL",
    "no-folder-sync": "fsync of a folder is refused with EINVAL",
    "broken-folder-sync": "fsync of a folder fails with EIO",
    "late-bytes": "what was written last is not read",
    "ascii": "names beyond ASCII are refused",
    "stale-journals": "a file *.open was removed by another client between open and read",
}


@contextlib.contextmanager
def mounted(flaw: str, folder: Path) -> Iterator[Path]:
    """Mount it below `folder`. Skips where it cannot be."""
    if os.getuid() != 0 or importlib.util.find_spec("fuse") is None:
        pytest.skip("mounts a file system: needs root, `pip install fusepy` and libfuse2")
    behind, point = folder / "behind", folder / "mounted"
    behind.mkdir()
    point.mkdir()
    command = [sys.executable, __file__, str(point), str(behind), flaw]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            _wait_until_mounted(server, point)
            yield point
        finally:
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
            server.terminate()


def _wait_until_mounted(server: subprocess.Popen[str], point: Path) -> None:
    end = time.monotonic() + 20
    while not os.path.ismount(point):
        if server.poll() is not None or time.monotonic() > end:
            server.kill()
            _, said = server.communicate()
            pytest.skip(f"no FUSE here: {said.strip()[-200:]}")
        time.sleep(0.02)


def serve(point: str, behind: str, flaw: str) -> None:
    """Mount, and serve until it is unmounted."""
    from fuse import FUSE, FuseOSError, Operations

    def refuse(number: int) -> None:
        raise FuseOSError(number)

    class Shown(Operations):  # type: ignore[misc]
        def __init__(self) -> None:
            self.made: dict[str, float] = {}

        def at(self, path: str) -> str:
            name = path.rpartition("/")[2]
            limit = {"short-names": 143, "tiny-names": 60}.get(flaw, 255)
            if len(os.fsencode(name)) > limit:
                refuse(errno.ENAMETOOLONG)
            if flaw == "ascii" and not path.isascii():
                refuse(errno.EILSEQ)
            if flaw == "folds-case":
                path = path.lower()
            if flaw == "composes":
                path = normalize("NFC", path)
            return behind + path

        def getattr(self, path: str, fh: int | None = None) -> dict[str, float]:
            status = os.lstat(self.at(path))
            names = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_mtime", "st_ctime", "st_atime")
            told = {name: getattr(status, name) for name in names}
            told["st_mtime"] = self.shown_time(status.st_mtime)
            return told

        def shown_time(self, mtime: float) -> float:
            if flaw == "frozen-times":
                return 1_000_000_000.0
            if flaw == "coarse-times":
                return mtime // 2 * 2
            return mtime + 3600 if flaw == "fast-clock" else mtime

        def readdir(self, path: str, fh: int) -> list[str]:
            names = os.listdir(self.at(path))
            if flaw == "stale-listing":
                now = time.monotonic()
                names = [n for n in names if now - self.made.get(f"{path}/{n}".replace("//", "/"), 0) > 0.5]
            return [".", "..", *names]

        def create(self, path: str, mode: int, fi: object = None) -> int:
            self.made[path] = time.monotonic()
            return os.open(self.at(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)

        def open(self, path: str, flags: int) -> int:
            return os.open(self.at(path), flags & ~(os.O_APPEND | os.O_CREAT | os.O_EXCL))

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            if flaw == "stale-journals" and path.endswith(".open"):
                refuse(errno.ESTALE)
            data = os.pread(fh, size, offset)
            return data[:-1] + b"\0" if flaw == "late-bytes" and data else data

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            return os.pwrite(fh, data, offset)

        def truncate(self, path: str, length: int, fh: int | None = None) -> None:
            os.truncate(self.at(path), length)

        def release(self, path: str, fh: int) -> None:
            os.close(fh)

        def flush(self, path: str, fh: int) -> None:
            return

        def fsync(self, path: str, datasync: int, fh: int) -> None:
            if flaw == "no-file-sync":
                refuse(errno.EINVAL)

        def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
            if flaw == "no-folder-sync":
                refuse(errno.EINVAL)
            if flaw == "broken-folder-sync":
                refuse(errno.EIO)

        def mkdir(self, path: str, mode: int) -> None:
            os.mkdir(self.at(path), mode)

        def rmdir(self, path: str) -> None:
            os.rmdir(self.at(path))

        def unlink(self, path: str) -> None:
            os.unlink(self.at(path))

        def rename(self, old: str, new: str) -> None:
            if flaw == "no-rename":
                refuse(errno.EIO)
            if flaw == "fixed-folders" and os.path.isdir(self.at(old)):
                refuse(errno.EBUSY)
            os.rename(self.at(old), self.at(new))

        def link(self, target: str, source: str) -> None:
            if flaw in ("no-link", "broken-link"):
                refuse(errno.EPERM if flaw == "no-link" else errno.EIO)
            if flaw == "copied-link":
                Path(self.at(target)).write_bytes(Path(self.at(source)).read_bytes())
            else:
                os.link(self.at(source), self.at(target))

        def utimens(self, path: str, times: tuple[float, float] | None = None) -> None:
            os.utime(self.at(path), times)

        def chmod(self, path: str, mode: int) -> None:
            os.chmod(self.at(path), mode)

        def chown(self, path: str, uid: int, gid: int) -> None:
            os.chown(self.at(path), uid, gid)

        def statfs(self, path: str) -> dict[str, int]:
            status = os.statvfs(behind)
            names = (
                "f_bsize",
                "f_frsize",
                "f_blocks",
                "f_bfree",
                "f_bavail",
                "f_files",
                "f_ffree",
                "f_favail",
            )
            return {name: getattr(status, name) for name in names} | {"f_namemax": 255}

    FUSE(Shown(), point, foreground=True, nothreads=True, attr_timeout=0, entry_timeout=0, big_writes=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
