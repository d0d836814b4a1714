"""The recorder: a file system on a disk that logs every write and flush, and the mounts around it.

The disk is a file in FUSE behind a loop device, so no kernel module is needed. Each mount lives in a
private mount namespace: when the processes in it end, however they end, the kernel takes the mounts and
their loop devices away. Needs root, libfuse2, fuse3 and fusepy.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.powercut.blocklog import FLUSH, copy_sparse, format_write, parse_log

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class FileSystem:
    """How to make and mount one kind of file system, and which sectors its power cuts tear."""

    size_mib: int
    make: tuple[str, ...]
    options: str
    sectors: tuple[int, ...]


FILE_SYSTEMS = {
    "ext4": FileSystem(64, ("mkfs.ext4", "-q", "-F", "-b", "4096"), "nodiscard", (512, 4096)),
    "xfs": FileSystem(320, ("mkfs.xfs", "-q", "-f"), "nouuid,nodiscard", (512, 4096)),
    # A super block of 4096 bytes under one checksum: btrfs itself needs whole 4 KiB writes.
    "btrfs": FileSystem(256, ("mkfs.btrfs", "-q", "-f"), "nodiscard", (4096,)),
}


@dataclass(frozen=True, slots=True)
class Recording:
    """Files of a recording: the disk before the first write, and the log of all that followed."""

    folder: Path

    @property
    def base(self) -> Path:
        return self.folder / "base.img"

    @property
    def log(self) -> Path:
        return self.folder / "block.log"


@contextlib.contextmanager
def record_blocks(fs: str, folder: Path, mount_point: Path) -> Iterator[Recording]:
    """Mount a fresh recorded file system at `mount_point` while the block runs.

    Refuses to go on where a sync is not seen as a write and then a flush: without that barrier no
    crash state would mean anything.
    """
    recording = Recording(folder)
    image, fuse = folder / "disk.img", folder / "fuse"
    fuse.mkdir()
    make_image(fs, image)
    copy_sparse(image, recording.base)
    recording.log.touch()
    with _fuse_disk(fuse, image, recording.log) as disk, mounted(disk, fs, mount_point):
        require_barrier(mount_point, recording.log)
        yield recording
    image.unlink()
    fuse.rmdir()


def make_image(fs: str, image: Path) -> None:
    """Create an empty file system of the kind `fs` in a sparse file."""
    kind = FILE_SYSTEMS[fs]
    with image.open("xb") as file:
        file.truncate(kind.size_mib << 20)
    subprocess.run([*kind.make, image], check=True, capture_output=True)


@contextlib.contextmanager
def mounted(disk: Path, fs: str, at: Path) -> Iterator[None]:
    """Mount `disk` through a loop device; its journal is replayed by that.

    Raises: subprocess.CalledProcessError if the kernel refuses the file system.
    """
    options = f"loop,{FILE_SYSTEMS[fs].options}"
    subprocess.run(["mount", "-t", fs, "-o", options, disk, at], check=True, capture_output=True)
    try:
        yield
    finally:
        unmount(at)


def unmount(at: Path) -> None:
    """Unmount, if need be behind the back of whoever still uses it."""
    for options in ([], [], [], ["-l"]):
        if subprocess.run(["umount", *options, at], capture_output=True).returncode == 0:
            return
        time.sleep(0.2)


def require_barrier(mount_point: Path, log: Path) -> None:
    """Check that fdatasync on the mounted file system comes down as the data and then a flush.

    Raises: RuntimeError if not.
    """
    token = os.urandom(512)
    probe = mount_point / "barrier-probe"
    with probe.open("wb") as file:
        file.write(token)
        file.flush()
        os.fdatasync(file.fileno())
    seen = parse_log(log.read_bytes())
    told = [n for n, w in enumerate(seen.writes) if token in bytes(seen.data[w.start : w.start + w.size])]
    if not told or told[0] >= seen.cuts[-1].durable:
        raise RuntimeError("fdatasync does not reach the recorder as a write and then a flush")
    probe.unlink()


@contextlib.contextmanager
def _fuse_disk(fuse: Path, image: Path, log: Path) -> Iterator[Path]:
    command = [sys.executable, "-m", "tools.powercut.recorder", fuse, image, log]
    server = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
    disk = fuse / "disk.img"
    try:
        while not disk.exists():
            if server.poll() is not None:
                raise RuntimeError(f"the recorder did not start: exit code {server.returncode}")
            time.sleep(0.02)
        yield disk
    finally:
        unmount(fuse)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


_LIBC = ctypes.CDLL(None, use_errno=True)


def enter_private_mounts() -> None:
    """Give this process a mount namespace of its own, which ends with its last process.

    Raises: PermissionError without root.
    """
    clone_newns, ms_rec_private = 0x20000, 0x4000 | (1 << 18)
    for failed in (
        _LIBC.unshare(clone_newns),
        _LIBC.mount(b"none", b"/", None, ctypes.c_ulong(ms_rec_private), None),
    ):
        if failed:
            raise OSError(ctypes.get_errno(), "a private mount namespace needs root")


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends."""
    pr_set_pdeathsig = 1
    _LIBC.prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def serve(fuse: str, image: str, log: str) -> None:
    """Serve `fuse`/disk.img from `image` until unmounted, one request after another, and log its writes."""
    from fuse import FUSE, FuseOSError, Operations  # only the server needs the library

    class Disk(Operations):  # type: ignore[misc]
        def __init__(self) -> None:
            self.image = os.open(image, os.O_RDWR)
            self.log = os.open(log, os.O_WRONLY | os.O_APPEND)
            self.size = os.fstat(self.image).st_size

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if path == "/disk.img":
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self.size}
            raise FuseOSError(errno.ENOENT)

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(self.image, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            written = os.pwrite(self.image, data, offset)
            os.write(self.log, format_write(offset, data[:written]))
            return written

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            os.write(self.log, FLUSH)
            return 0

        def flush(self, path: str, fh: int) -> int:
            """Closing a file is no barrier: nothing to log."""
            return 0

    options = {"big_writes": True, "max_write": 131072, "allow_other": True}
    FUSE(Disk(), fuse, foreground=True, nothreads=True, **options)


if __name__ == "__main__":
    die_with_parent()
    serve(*sys.argv[1:])
