"""Who and where this process is, whether another one still lives, and what time it is.

It asks the system and writes nothing. What cannot be found out is None, never a guess.

LIMIT: boot and pid namespace are read from /proc; without it (macOS) no owner is ever provably dead, and the
24 hours of spec/log.md section 5 decide.
LIMIT: a process in another time namespace of the same pid namespace counts its start from another zero.

Spec: spec/log.md sections 3 and 5.
"""

import errno
import os
import pwd
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

import msgspec

from tracker._disk.durable import as_storage_error
from tracker._model.event import Batch
from tracker.terms import WriterId

Clock = Callable[[], int]
"""Gives the wall time in Unix milliseconds. `now_ms` is the real one; tests pass their own."""


class Process(Protocol):
    """What an OPEN frame tells of its owner, as far as death is concerned."""

    @property
    def boot(self) -> str | None: ...
    @property
    def pidns(self) -> int | None: ...
    @property
    def pid(self) -> int: ...
    @property
    def pid_start(self) -> int | None: ...


class Host(msgspec.Struct, frozen=True):
    """One process, named so that another on any machine can tell whether it is the same."""

    host: str
    boot: str | None
    pidns: int | None
    pid: int
    pid_start: int | None
    """Clock ticks from boot to the start of the process: a pid used again has another."""
    user: str
    batch: Batch | None = None


class ProcessStat(msgspec.Struct, frozen=True):
    """Two fields of /proc/<pid>/stat."""

    state: str
    start: int


def now_ms() -> int:
    """Give the wall time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def this_process() -> Host:
    """Say who we are; anew in a forked child, since it has another pid.

    Raises: StorageError where /proc is there and cannot be read just now.
    Cost: some 0.1 ms once a process, then 0.2 µs.
    """
    return _process(os.getpid())


@lru_cache(maxsize=1)
def _process(pid: int) -> Host:
    stat = parse_process_stat(_read_own("/proc/self/stat"))
    boot = _read_own("/proc/sys/kernel/random/boot_id")
    return Host(
        host=_as_utf8(os.uname().nodename),
        boot=boot.decode("ascii", "replace").strip() if boot else None,
        pidns=_inode("/proc/self/ns/pid"),
        pid=pid,
        pid_start=None if stat is None else stat.start,
        user=_as_utf8(_user()),
        batch=batch_of(os.environ),
    )


def batch_of(environment: Mapping[str, str]) -> Batch | None:
    """The batch job that a process with these variables is a part of: Slurm's, or None."""
    job = environment.get("SLURM_JOB_ID")
    if not job:
        return None
    restarts = environment.get("SLURM_RESTART_COUNT", "")
    return Batch(
        "slurm",
        _as_utf8(job),
        environment.get("SLURM_ARRAY_JOB_ID"),
        environment.get("SLURM_ARRAY_TASK_ID"),
        int(restarts) if restarts.isascii() and restarts.isdigit() else 0,
    )


def is_dead(owner: Process, me: Process) -> bool | None:
    """Tell whether the process `owner` is gone, as seen from this process, which is `me`.

    True and False are proof: same boot, same pid namespace, and the pid is gone or started at another time,
    or it did start then and is there. A zombie is dead, as it will write no more. None: it cannot be told
    from here.

    Spec: spec/log.md section 5, "Dead writers".
    """
    if None in (owner.boot, owner.pidns) or (owner.boot, owner.pidns) != (me.boot, me.pidns):
        return None
    there = _is_there(owner.pid)
    if there is None:
        return None
    if not there:
        return True
    stat = _stat_of(owner.pid)
    if stat is None or owner.pid_start is None:
        return None
    return stat.start != owner.pid_start or stat.state in _DEAD


_DEAD = frozenset("ZXx")


def _is_there(pid: int) -> bool | None:
    """Ask the kernel and not /proc, which may hide other users' processes."""
    if pid <= 0:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return None
    return True


def _stat_of(pid: int) -> ProcessStat | None:
    # A container may have the /proc of another pid namespace, where the same number is someone else.
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
    except OSError:
        return None
    return parse_process_stat(_read(f"/proc/{pid}/stat") or b"")


def parse_process_stat(data: bytes) -> ProcessStat | None:
    """Read /proc/<pid>/stat; None if it is not one.

    The second field is the program's name in parentheses; it may hold spaces and parentheses itself, so
    fields are counted from the last one.
    """
    fields = data.rpartition(b")")[2].split()
    if len(fields) < 20 or not fields[19].isdigit():
        return None
    return ProcessStat(fields[0].decode("ascii", "replace"), int(fields[19]))


def new_writer_id(ms: int, random: bytes) -> WriterId:
    """Make the UUIDv7 of a time and 10 random bytes, as 32 hex digits.

    | bits | 48 | 4 | 12 | 2 | 62 |
    |---|---|---|---|---|---|
    | | Unix ms | 7 | random | binary 10 | random |

    Spec: RFC 9562 section 5.7.
    """
    assert len(random) == 10, "a writer id takes 10 random bytes"
    bits = int.from_bytes(random, "big")
    high = (min(max(ms, 0), (1 << 48) - 1) << 16) | 0x7000 | (bits >> 62 & 0xFFF)
    low = (0b10 << 62) | (bits & ((1 << 62) - 1))
    return WriterId(f"{high << 64 | low:032x}")


def is_network_fs(path: str) -> bool:
    """Tell whether other hosts may write under `path`, so that a listing may be old and needs care.

    A file system that is not known to be local counts as a network one, and so does every one where /proc
    does not tell: that costs some more listings and syncs, where the other error would miss a run.
    """
    return mount_type(path) not in _LOCAL


def mount_type(path: str) -> bytes | None:
    """The type of the file system that holds `path`; None where /proc does not tell."""
    mounts = _read("/proc/self/mountinfo")
    return None if mounts is None else find_mount_type(mounts, os.fsencode(os.path.realpath(path)))


def has_lasting_inodes(path: str) -> bool:
    """True if a folder keeps its inode number on every mount. FUSE may give another each time."""
    return not (mount_type(path) or b"fuse").startswith(b"fuse")


_LOCAL = frozenset(
    b"apfs bcachefs btrfs devtmpfs erofs exfat ext2 ext3 ext4 f2fs fuseblk hfs hfsplus iso9660 jffs2 jfs "
    b"msdos nilfs2 ntfs ntfs3 overlay ramfs reiserfs rootfs squashfs tmpfs ubifs udf ufs vfat xfs zfs".split()
)


def find_mount_type(mountinfo: bytes, path: bytes) -> bytes | None:
    """Find the type of the file system that holds an absolute path, in the text of /proc/self/mountinfo.

    The longest mount point above `path` counts; of two with one mount point the later, which hides the other.
    """
    longest, found = -1, None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(b" - ")
        if before.count(b" ") < 4 or not after:
            continue
        point = _unescaped(before.split(b" ")[4])
        if len(point) >= longest and _is_below(path, point):
            longest, found = len(point), after.split(b" ")[0]
    return found


def _unescaped(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    return re.sub(rb"\\([0-3][0-7]{2})", lambda match: bytes([int(match[1], 8)]), field)


def _is_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def _user() -> str:
    for name in ("LOGNAME", "USER"):
        user = os.environ.get(name)
        if user:
            return user
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number that has no name
        return str(os.getuid())


def _as_utf8(text: str) -> str:
    """Replace what the system gave in another encoding: the log holds UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _read(path: str) -> bytes | None:
    data: bytes | None = None
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
    except OSError:  # a close that is refused takes nothing back of what was read
        return data
    return data


def _read_own(path: str) -> bytes:
    """What a process learns of itself once, for good; empty where the system does not tell it.

    What is refused for the moment, as where no descriptor is free, is an error and no answer: a process that
    did not know its boot could prove nobody dead. Raises: StorageError.
    """
    data = b""
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
    except OSError as error:  # a close that is refused takes nothing back of what was read
        if not data and error.errno not in _UNTOLD:
            raise as_storage_error(error, path, "read") from error
    return data


_UNTOLD = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EINVAL})
"""There is no such file here, or it is shown to others alone."""
